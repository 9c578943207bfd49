//! How things end, and how long they are remembered.

use std::sync::Arc;

use contract::agent::ActionError;
use domain::action::{MEMORY_AFTER_NOT_AFTER, Outcome};

use crate::clock::Moment;
use crate::engine::accept::weight;
use crate::engine::entry::Phase;
use crate::engine::{Engine, Mark, REMEMBERED_MAX, StepWord};
use crate::journal::record::{Ended, Key};
use crate::journal::{Class, Record};

impl Engine {
    /// An execution ended so.
    pub fn finished(
        &mut self,
        key: Key,
        outcome: Outcome,
        result: Option<serde_json::Value>,
        error: Option<ActionError>,
        moment: Moment,
    ) {
        if self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.phase == Phase::Running)
        {
            self.end(key, outcome, result, error, moment);
            self.start_ready(moment);
        }
    }

    pub(super) fn end(
        &mut self,
        key: Key,
        outcome: Outcome,
        result: Option<serde_json::Value>,
        error: Option<ActionError>,
        moment: Moment,
    ) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Some(task) = entry.task.take() else {
            return;
        };
        let ended = Ended {
            action: key.action,
            attempt: key.attempt,
            seq: entry.seq,
            kind: task.kind,
            not_after: task.not_after,
            idempotent: task.idempotent,
            outcome,
            result: result.map(Into::into),
            error,
            accepted_at: entry.accepted_at,
            started_at: entry.started_at,
            finished_at: moment.now,
            traceparent: task.traceparent.clone(),
            reported: false,
        }
        .bounded();
        let ended = Arc::new(ended);
        if let Phase::Waiting { until } = entry.phase {
            self.delays.remove(&(until, key));
        }
        entry.phase = Phase::Ended {
            ended: ended.clone(),
            durable: false,
        };
        entry.began_in = None;
        let place = (entry.seq, key);
        self.ready.remove(&place);
        self.running.remove(&place);
        if self.exclusive == Some(key) {
            self.exclusive = None;
        }
        self.open = self.open.saturating_sub(1);
        self.open_bytes = self.open_bytes.saturating_sub(weight(&task));
        self.write(Record::Ended(ended), Mark::Ended(key));
    }

    pub(super) fn accepted_durable(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Phase::Accepted { durable } = &mut entry.phase {
            *durable = true;
            let step = entry.step(key, StepWord::Accepted, false);
            self.effects.extend(step);
        }
    }

    pub(super) fn ended_durable(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Phase::Ended { durable, .. } = &mut entry.phase {
            *durable = true;
        }
        let (seq, over) = (entry.seq, !entry.may_be_repeated() && entry.has_place());
        self.effects.extend(entry.answer(key, false));
        if over {
            self.sequence.settle(seq);
        }
    }

    /// The disk is full, and the action was not written down: it ends before it begins, and that is written into the
    /// reserve.
    pub(super) fn refuse_full(&mut self, key: Key, moment: Moment) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.is_ended() {
            return;
        }
        entry.accepted_at = None;
        entry.started_at = None;
        self.tally.journal_full += 1;
        let error = ActionError {
            code: "journal-full".into(),
            message: "the machine's disk is full: the agent cannot write the action down, so it does not begin it".into(),
        };
        self.seal(Class::Owed);
        self.end(key, Outcome::Failed, None, Some(error), moment);
        self.seal(Class::Refusal);
    }

    /// Not even the refusal could be written: as if the action had never come. The server offers it again.
    pub(super) fn forget_refused(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            if entry.has_place() {
                self.sequence.forget(entry.seq);
            }
            self.turned_away = true;
        }
    }

    /// The owner has the outcome.
    pub fn reported(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Phase::Ended { ended, .. } = &mut entry.phase else {
            return;
        };
        if ended.reported {
            return;
        }
        Arc::make_mut(ended).settle();
        let Key { action, attempt } = key;
        self.seal(Class::Owed);
        self.push_batch(
            Class::Lazy,
            vec![Record::Reported { action, attempt }],
            Vec::new(),
        );
    }

    /// Forgets what is long over: a day after its `notAfter`, or when there is too much of it. Its place stays known,
    /// so that it cannot come again. Before the server's word the time says nothing, and nothing is forgotten.
    pub fn forget(&mut self, moment: Moment) {
        if self.awaits_word {
            return;
        }
        let mut settled = Vec::new();
        self.entries.retain(|_, entry| match &entry.phase {
            Phase::Ended { ended, .. } if ended.reported => {
                let keep = ended.not_after.plus(MEMORY_AFTER_NOT_AFTER) > moment.now;
                if !keep && entry.has_place() {
                    settled.push(entry.seq);
                }
                keep
            }
            _ => true,
        });
        for seq in settled {
            self.sequence.settle(seq);
        }
        let too_many = self.entries.len().saturating_sub(REMEMBERED_MAX);
        if too_many > 0 {
            let through = self.sequence.settled_through();
            let mut oldest: Vec<_> = self
                .entries
                .iter()
                .filter(|(_, entry)| {
                    entry.seq <= through
                        && matches!(&entry.phase, Phase::Ended { ended, .. } if ended.reported)
                })
                .map(|(key, entry)| (entry.seq, *key))
                .collect();
            oldest.sort_unstable();
            for (_, key) in oldest.into_iter().take(too_many) {
                self.entries.remove(&key);
            }
        }
    }
}

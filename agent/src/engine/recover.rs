//! The life before: what the journal says, and what becomes of what was under way when it ended.

use std::sync::Arc;

use contract::agent::ActionError;
use domain::action::{ActionKind, Outcome};

use crate::clock::Moment;
use crate::engine::Engine;
use crate::engine::entry::{Entry, Phase};
use crate::journal::record::Key;
use crate::journal::{Class, Record};
use crate::platform::is_same_boot;

/// Whether the machine was booted between these two; not when one of them is not known.
fn is_another_boot(before: &str, now: &str) -> bool {
    !before.is_empty() && !now.is_empty() && !is_same_boot(before, now)
}

impl Engine {
    /// One record of the journal, in order.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Begin { .. } | Record::Life { .. } | Record::Clock { .. } => {}
            Record::Accepted { task, at, issued } => {
                self.entries
                    .insert(Key::of(&task), Entry::accepted(task, issued, at, true));
            }
            Record::Started {
                action,
                attempt,
                at,
                session,
                boot,
            } => {
                if let Some(entry) = self.entries.get_mut(&Key { action, attempt }) {
                    entry.phase = Phase::Starting;
                    entry.started_at = Some(at);
                    entry.began_in = Some(Box::new((session, boot)));
                }
            }
            Record::Ended(ended) => {
                self.entries.insert(ended.key(), Entry::ended(ended, true));
            }
            Record::Reported { action, attempt } => {
                if let Some(Phase::Ended { ended, .. }) = self
                    .entries
                    .get_mut(&Key { action, attempt })
                    .map(|entry| &mut entry.phase)
                {
                    Arc::make_mut(ended).settle();
                }
            }
            Record::Known { through, ranges } => {
                self.sequence.settle_between(0, through);
                for (from, to) in ranges {
                    self.sequence.settle_between(from, to);
                }
            }
            Record::Quarantine { reason, .. } => self.quarantined = reason,
        }
    }

    /// Begins this life, after the last record: what was under way ends INTERRUPTED, or as the restart shows; what was
    /// accepted waits for the server's word.
    pub fn begin(&mut self, moment: Moment) {
        let mut order: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.seq, *key))
            .collect();
        order.sort_unstable();
        for (seq, key) in order {
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            match &entry.phase {
                Phase::Ended { ended, .. } => {
                    if !ended.reported {
                        self.effects.extend(entry.answer(key, false));
                    }
                    if entry.may_be_repeated() {
                        self.sequence.open(seq, key);
                    } else if entry.has_place() {
                        self.sequence.settle(seq);
                    }
                }
                Phase::Accepted { .. } => {
                    self.reopen(seq, key);
                    self.ready.insert((seq, key));
                }
                Phase::Starting | Phase::Waiting { .. } | Phase::Running => {
                    self.reopen(seq, key);
                    self.end_of_life(key, moment);
                }
            }
        }
        // A copy of this journal goes on with another life: from here on their histories differ.
        self.seal(Class::Owed);
        let life = Record::Life {
            session: self.life.session,
            boot: self.life.boot.clone(),
            at: moment.now,
        };
        self.push_batch(Class::Owed, vec![life], Vec::new());
    }

    fn reopen(&mut self, seq: i64, key: Key) {
        self.sequence.open(seq, key);
        self.open += 1;
        let task = self
            .entries
            .get(&key)
            .and_then(|entry| entry.task.as_deref());
        self.open_bytes += task.map_or(0, super::accept::weight);
    }

    /// What became of an attempt that had begun when the life before ended.
    fn end_of_life(&mut self, key: Key, moment: Moment) {
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        let (session, boot) = match entry.began_in.as_deref() {
            Some((session, boot)) => (Some(*session), boot.as_str()),
            None => (None, ""),
        };
        let (outcome, result) = match entry.kind() {
            Some(ActionKind::Restart) if session != Some(self.life.session) => (
                Outcome::Succeeded,
                Some(
                    serde_json::json!({ "sessionId": self.life.session, "agentVersion": self.life.version }),
                ),
            ),
            Some(ActionKind::Reboot) if is_another_boot(boot, &self.life.boot) => (
                Outcome::Succeeded,
                Some(serde_json::json!({ "bootId": self.life.boot })),
            ),
            _ => (Outcome::Interrupted, None),
        };
        let error = (outcome == Outcome::Interrupted).then(|| ActionError {
            code: "interrupted".into(),
            message:
                "the agent ended while the action was under way; it may have been done in part"
                    .into(),
        });
        self.end(key, outcome, result, error, moment);
    }

    /// What must be kept, for a file written anew.
    #[must_use]
    pub fn snapshot(&self, moment: Moment) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.entries.len() + 2);
        if let Some(reason) = &self.quarantined {
            records.push(Record::Quarantine {
                reason: Some(reason.clone()),
                at: moment.now,
            });
        }
        records.push(Record::Known {
            through: self.sequence.settled_through(),
            ranges: self.sequence.settled_ranges(),
        });
        let mut order: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.seq, *key))
            .collect();
        order.sort_unstable();
        for (_, key) in order {
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            if let Phase::Ended { ended, .. } = &entry.phase {
                records.push(Record::Ended(ended.clone()));
                continue;
            }
            let (Some(task), Some(at)) = (&entry.task, entry.accepted_at) else {
                continue;
            };
            records.push(Record::Accepted {
                task: (**task).clone(),
                at,
                issued: entry.issued,
            });
            if let (Some(at), Some((session, boot))) = (entry.started_at, entry.began_in.as_deref())
            {
                let Key { action, attempt } = key;
                records.push(Record::Started {
                    action,
                    attempt,
                    at,
                    session: *session,
                    boot: boot.clone(),
                });
            }
        }
        records
    }

    /// After which place to ask the server: all open ones again (`whole`), or only what is unknown.
    #[must_use]
    pub fn sync_after(&self, whole: bool) -> i64 {
        if whole {
            self.sequence.settled_through()
        } else {
            self.sequence.known_through()
        }
    }

    /// How many places are known beyond those that are all settled.
    #[must_use]
    pub fn span(&self) -> i64 {
        self.sequence.last() - self.sequence.settled_through()
    }
}

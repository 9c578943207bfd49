//! Orders that come in: new actions, cancellations, pages of what was missed. All of them are verified already.

use contract::order::{SyncItem, Task};
use domain::Timestamp;
use domain::action::{MEMORY_AFTER_NOT_AFTER, Outcome, Payload};

use crate::clock::Moment;
use crate::engine::entry::{Entry, Phase};
use crate::engine::{Effect, Engine, FIRST_WORD, Mark, OPEN_MAX, OPEN_MAX_BYTES};
use crate::journal::record::Key;
use crate::journal::{Class, Record};

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is taken: accepted, or ended at once.
    Taken,
    /// It was known: answered from the journal.
    Known,
    /// It is about something that is long settled: ignored.
    Stale,
    /// There is no room now, or this machine is quarantined: it stays with the server.
    NotNow,
}

impl Engine {
    /// A new action, signed at `issued`.
    pub fn offer(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        let seq = task.seq;
        let offered = self.take_offer(task, issued, moment, true);
        if offered == Offered::Taken && self.sequence.known_through() < seq - 1 {
            self.effects.push(Effect::Sync);
        }
        self.start_ready(moment);
        offered
    }

    /// Takes an offer; `asked` when the server has no word of it yet.
    fn take_offer(
        &mut self,
        task: Task,
        issued: Timestamp,
        moment: Moment,
        asked: bool,
    ) -> Offered {
        let key = Key::of(&task);
        if let Some(entry) = self.entries.get(&key) {
            self.effects.extend(entry.answer(key, asked));
            return Offered::Known;
        }
        if !self.may_take(&task, moment) {
            self.tally.stale += 1;
            return Offered::Stale;
        }
        let bytes = weight(&task);
        let room = self.open < OPEN_MAX && self.open_bytes + bytes <= OPEN_MAX_BYTES;
        if self.quarantined.is_some() || self.stopping || !room {
            self.turned_away |= !room;
            return Offered::NotNow;
        }
        self.tally.accepted += 1;
        let refusal = self.refusal(&task, moment);
        self.sequence.open(task.seq, key);
        let mut entry = Entry::accepted(task.clone(), issued, moment.now, false);
        self.open += 1;
        self.open_bytes += bytes;
        match refusal {
            Some((outcome, error)) => {
                self.seal(Class::Owed);
                entry.accepted_at = None;
                self.entries.insert(key, entry);
                self.end(key, outcome, None, error, moment);
                self.seal(Class::Refusal);
            }
            None => {
                self.entries.insert(key, entry);
                self.ready.insert((task.seq, key));
                self.seal(Class::Owed);
                self.write(
                    Record::Accepted {
                        task,
                        at: moment.now,
                        issued,
                    },
                    Mark::Accepted(key),
                );
                // What can begin at once begins in the same sync.
                self.start_in_order(moment, Some(key));
                self.seal(Class::New);
            }
        }
        Offered::Taken
    }

    /// Whether an unknown attempt can be a real one: not one that was forgotten after it ended, nor one that takes
    /// another's place.
    fn may_take(&self, task: &Task, moment: Moment) -> bool {
        let long_over = task.not_after.plus(MEMORY_AFTER_NOT_AFTER) <= moment.now;
        if task.seq < 1 || task.attempt < 1 || long_over {
            return false;
        }
        let before = task.attempt.checked_sub(1).filter(|before| *before > 0);
        let repeats = before
            .and_then(|attempt| {
                self.entries.get(&Key {
                    action: task.action,
                    attempt,
                })
            })
            .is_some_and(Entry::may_be_repeated);
        repeats || !self.sequence.knows(task.seq)
    }

    /// Why a task is not executed at all.
    pub(super) fn refusal(
        &self,
        task: &Task,
        moment: Moment,
    ) -> Option<(Outcome, Option<contract::agent::ActionError>)> {
        if task.not_after <= moment.now {
            return Some((Outcome::Expired, None));
        }
        let failed = |code: &str, message: String| {
            Some((
                Outcome::Failed,
                Some(contract::agent::ActionError {
                    code: code.into(),
                    message,
                }),
            ))
        };
        if let Some(rule) = self.policy.denies(task.kind) {
            return failed("policy-denied", rule);
        }
        match Payload::parse(task.kind, &task.payload) {
            Ok(_) => None,
            Err(error) => failed("payload-invalid", error.to_string()),
        }
    }

    /// Somebody asks that an action should not begin.
    pub fn cancel(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        let key = Key::of(&task);
        let offered = match self.entries.get_mut(&key) {
            None => self.cancel_unknown(task, issued, moment),
            Some(entry) => {
                match entry.phase {
                    Phase::Accepted { .. } | Phase::Waiting { .. } => {
                        self.end(key, Outcome::Cancelled, None, None, moment);
                    }
                    Phase::Starting => entry.cancel = true,
                    // It goes on, and its result tells.
                    Phase::Running => {}
                    Phase::Ended { .. } => self.effects.extend(entry.answer(key, true)),
                }
                Offered::Known
            }
        };
        self.start_ready(moment);
        offered
    }

    /// A cancellation that overtook its action: written down, so that the action finds it.
    fn cancel_unknown(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        if !self.may_take(&task, moment) {
            self.tally.stale += 1;
            return Offered::Stale;
        }
        let key = Key::of(&task);
        self.sequence.open(task.seq, key);
        self.open += 1;
        self.open_bytes += weight(&task);
        let mut entry = Entry::accepted(task, issued, moment.now, false);
        entry.accepted_at = None;
        self.entries.insert(key, entry);
        self.seal(Class::Owed);
        self.end(key, Outcome::Cancelled, None, None, moment);
        self.seal(Class::Refusal);
        Offered::Taken
    }

    /// The server's word about its trust, and what was missed. Says whether the rest of the page, and the pages after
    /// it, are wanted.
    pub fn page(
        &mut self,
        items: Vec<SyncItem>,
        quarantined: Option<String>,
        server: Timestamp,
        moment: Moment,
    ) -> bool {
        self.first_word = None;
        if self.quarantined != quarantined {
            self.seal(Class::Owed);
            let record = Record::Quarantine {
                reason: quarantined.clone(),
                at: moment.now,
            };
            self.push_batch(Class::Owed, vec![record], Vec::new());
            self.quarantined = quarantined;
        }
        let mut ranges = Vec::new();
        let mut wanted = true;
        for item in items {
            match item {
                SyncItem::Ended { seq, through } => {
                    if self.ended_by_server(seq, through, moment) {
                        ranges.push((seq, through));
                    }
                }
                SyncItem::Open { task, cancel: true } => {
                    self.cancel(task, server, moment);
                }
                SyncItem::Open {
                    task,
                    cancel: false,
                } => {
                    if self.take_offer(task, server, moment, false) == Offered::NotNow {
                        wanted = false;
                        break;
                    }
                }
            }
        }
        if !ranges.is_empty() {
            self.seal(Class::Owed);
            self.push_batch(
                Class::Lazy,
                vec![Record::Known { through: 0, ranges }],
                Vec::new(),
            );
        }
        self.start_ready(moment);
        wanted
    }

    /// The server suspects that this is a copy, and asks whether this life is alive: what was accepted before waits for
    /// the end of that.
    pub fn suspected(&mut self, moment: Moment) {
        self.first_word = Some(moment.boot.saturating_add(FIRST_WORD));
    }

    /// The server ended these places. Says whether that was news.
    fn ended_by_server(&mut self, from: i64, to: i64, moment: Moment) -> bool {
        for (seq, key) in self.sequence.open_between(from, to) {
            match self.entries.get(&key).map(|entry| &entry.phase) {
                // The server ended it while it waited here: it must not begin any more.
                Some(Phase::Accepted { .. }) => {
                    let error = contract::agent::ActionError {
                        code: "ended-by-server".into(),
                        message: "the server ended the action before it began here".into(),
                    };
                    self.end(key, Outcome::Cancelled, None, Some(error), moment);
                }
                // Over here too; only another attempt was still possible.
                Some(Phase::Ended { durable: true, .. }) | None => self.sequence.settle(seq),
                // It goes on, and its result tells.
                Some(_) => {}
            }
        }
        self.sequence.settle_between(from, to)
    }
}

/// What an open action weighs in memory.
pub(super) fn weight(task: &Task) -> usize {
    fn text(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::String(text) => text.len() + 32,
            serde_json::Value::Array(items) => items.iter().map(text).sum::<usize>() + 32,
            serde_json::Value::Object(fields) => {
                fields
                    .iter()
                    .map(|(key, value)| key.len() + text(value) + 64)
                    .sum::<usize>()
                    + 32
            }
            _ => 32,
        }
    }
    256 + text(&task.payload)
}

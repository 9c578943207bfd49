//! Orders that come in: new actions, cancellations, pages of what was missed. All of them are verified already.

use contract::agent::ActionError;
use contract::order::{SyncItem, Task};
use domain::Timestamp;
use domain::action::{MEMORY_AFTER_NOT_AFTER, Outcome, Payload};

use crate::clock::Moment;
use crate::engine::entry::{Entry, PLACE_TAKEN, Phase};
use crate::engine::{Effect, Engine, HELD_MAX, Held, Mark, OPEN_MAX, OPEN_MAX_BYTES};
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
    /// There is no room now, this machine is quarantined, or it was signed before the server's first word: it stays
    /// with the server, and comes in a page.
    NotNow,
    /// The server's word is not there: it is looked at when it is.
    Waits,
}

/// What an unknown attempt finds at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing, or the attempt before it.
    Free,
    /// Another action.
    Taken,
    /// No real one can be there: it was forgotten after it ended, or the server has ended it.
    Over,
}

impl Engine {
    /// A new action, signed at `issued`.
    pub fn offer(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        if self.awaits_word {
            return self.hold(Held::New(task, issued));
        }
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
        let place = self.place_of(&task, moment);
        if place == Place::Over {
            self.tally.stale += 1;
            return Offered::Stale;
        }
        let bytes = weight(&task);
        let room = self.open < OPEN_MAX && self.open_bytes + bytes <= OPEN_MAX_BYTES;
        let early = self.is_early(issued);
        if self.quarantined.is_some() || self.stopping || !room || early {
            self.turned_away |= !room || early;
            return Offered::NotNow;
        }
        if place == Place::Taken {
            let error = ActionError {
                code: PLACE_TAKEN.into(),
                message: format!(
                    "place {} in the machine's order belongs to another action, which this agent knows: a database \
                     that was restored may give a place twice. The action was not begun",
                    task.seq
                ),
            };
            self.end_unknown(task, issued, Outcome::Failed, Some(error), moment);
            return Offered::Taken;
        }
        self.tally.accepted += 1;
        let refusal = self.refusal(&task, moment);
        self.sequence.open(task.seq, key);
        match refusal {
            Some((outcome, error)) => self.end_unknown(task, issued, outcome, error, moment),
            None => {
                self.open += 1;
                self.open_bytes += bytes;
                let entry = Entry::accepted(task.clone(), issued, moment.now, false);
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

    /// Whether an order was signed before the server's first word in this life: then only a page says whether it still
    /// stands. A journal that is new, or that went back in time, may have lost that it was executed.
    fn is_early(&self, issued: Timestamp) -> bool {
        self.first_word.is_none_or(|first| issued < first)
    }

    /// Keeps an order until the server's word is there.
    fn hold(&mut self, held: Held) -> Offered {
        if self.held.len() < HELD_MAX {
            self.held.push(held);
            Offered::Waits
        } else {
            self.turned_away = true;
            Offered::NotNow
        }
    }

    /// The orders that waited for the server's word: cancellations first, because what is taken begins at once.
    fn take_held(&mut self, moment: Moment) {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|held| matches!(held, Held::New(..)));
        for held in held {
            match held {
                Held::New(task, issued) => self.offer(task, issued, moment),
                Held::Cancel(task, issued) => self.cancel(task, issued, moment),
            };
        }
    }

    /// What an unknown attempt finds at its place. A place whose action is not remembered counts as over: it may be
    /// that very action, and to say that it failed would be a lie about one that was executed.
    fn place_of(&self, task: &Task, moment: Moment) -> Place {
        let long_over = task.not_after.plus(MEMORY_AFTER_NOT_AFTER) <= moment.now;
        if task.seq < 1 || task.attempt < 1 || long_over {
            return Place::Over;
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
        if repeats || !self.sequence.knows(task.seq) {
            return Place::Free;
        }
        // Rare enough to look at all of them.
        let another = self.entries.iter().any(|(key, entry)| {
            entry.seq == task.seq && entry.has_place() && key.action != task.action
        });
        if another { Place::Taken } else { Place::Over }
    }

    /// Why a task is not executed at all.
    pub(super) fn refusal(
        &self,
        task: &Task,
        moment: Moment,
    ) -> Option<(Outcome, Option<ActionError>)> {
        if task.not_after <= moment.now {
            return Some((Outcome::Expired, None));
        }
        let failed = |code: &str, message: String| {
            Some((
                Outcome::Failed,
                Some(ActionError {
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
        if self.awaits_word {
            return self.hold(Held::Cancel(task, issued));
        }
        let offered = self.take_cancel(task, issued, moment);
        self.start_ready(moment);
        offered
    }

    fn take_cancel(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        let key = Key::of(&task);
        match self.entries.get_mut(&key) {
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
        }
    }

    /// A cancellation that overtook its action: written down, so that the action finds it.
    fn cancel_unknown(&mut self, task: Task, issued: Timestamp, moment: Moment) -> Offered {
        match self.place_of(&task, moment) {
            Place::Free if self.is_early(issued) => {
                self.turned_away = true;
                return Offered::NotNow;
            }
            Place::Free => {}
            Place::Taken | Place::Over => {
                self.tally.stale += 1;
                return Offered::Stale;
            }
        }
        self.sequence.open(task.seq, Key::of(&task));
        self.end_unknown(task, issued, Outcome::Cancelled, None, moment);
        Offered::Taken
    }

    /// An action that is over before it was ever here: only that is written down.
    fn end_unknown(
        &mut self,
        task: Task,
        issued: Timestamp,
        outcome: Outcome,
        error: Option<ActionError>,
        moment: Moment,
    ) {
        let key = Key::of(&task);
        self.open += 1;
        self.open_bytes += weight(&task);
        let mut entry = Entry::accepted(task, issued, moment.now, false);
        entry.accepted_at = None;
        self.entries.insert(key, entry);
        self.seal(Class::Owed);
        self.end(key, outcome, None, error, moment);
        self.seal(Class::Refusal);
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
        self.awaits_word = false;
        self.first_word.get_or_insert(server);
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
                    self.take_cancel(task, server, moment);
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
        self.take_held(moment);
        wanted
    }

    /// The server suspects that this is a copy, and asks whether this life is alive: what has not begun waits for the
    /// end of that.
    pub fn suspected(&mut self) {
        self.awaits_word = true;
    }

    /// The server ended these places. Says whether that was news.
    fn ended_by_server(&mut self, from: i64, to: i64, moment: Moment) -> bool {
        for (seq, key) in self.sequence.open_between(from, to) {
            match self.entries.get(&key).map(|entry| &entry.phase) {
                // The server ended it while it waited here: it must not begin any more.
                Some(Phase::Accepted { .. }) => {
                    let error = ActionError {
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

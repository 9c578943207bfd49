//! What is to be said about attempts: steps once, results until the owner has them. It does no I/O.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::backoff;
use crate::engine::StepWord;
use crate::journal::record::Key;
use contract::agent::{ResultReport, Step, Verdict};

/// A step is said only when the attempt has not ended after this time.
const STEP_AFTER: Duration = Duration::from_millis(100);
/// The most reports that are under way at once.
pub const FLYING_MAX: usize = 16;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// An attempt reached a step.
    Step(StepWord, Step),
    /// An attempt ended.
    Result(ResultReport),
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which attempt.
    pub key: Key,
    /// Which sending of it; an answer to another one is no answer.
    pub flight: u64,
    /// What is said.
    pub report: Report,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Step,
    Result,
}

#[derive(Debug)]
struct Item {
    report: Report,
    traceparent: Option<String>,
    due: Duration,
    tries: u32,
    flight: Option<u64>,
}

/// What is to be said.
#[derive(Debug, Default)]
pub struct Outbox {
    items: BTreeMap<(Key, Slot), Item>,
    /// The last step of open attempts that the owner has.
    known: HashMap<Key, StepWord>,
    flights: u64,
}

impl Outbox {
    /// An attempt reached a step. Said at once when the server asked, later or never when not.
    pub fn step(
        &mut self,
        word: StepWord,
        step: Step,
        asked: bool,
        traceparent: Option<String>,
        now: Duration,
    ) {
        let key = Key {
            action: step.action,
            attempt: step.attempt,
        };
        let known = !asked && self.known.get(&key) == Some(&word);
        if known || self.items.contains_key(&(key, Slot::Result)) {
            return;
        }
        let due = if asked { now } else { now + STEP_AFTER };
        let item = Item {
            report: Report::Step(word, step),
            traceparent,
            due,
            tries: 0,
            flight: None,
        };
        self.items.insert((key, Slot::Step), item);
    }

    /// An attempt ended: its steps are history.
    pub fn result(&mut self, report: ResultReport, traceparent: Option<String>, now: Duration) {
        let key = Key {
            action: report.action,
            attempt: report.attempt,
        };
        self.items.remove(&(key, Slot::Step));
        self.known.remove(&key);
        self.items
            .entry((key, Slot::Result))
            .and_modify(|item| item.due = item.due.min(now))
            .or_insert(Item {
                report: Report::Result(report),
                traceparent,
                due: now,
                tries: 0,
                flight: None,
            });
    }

    /// What is to be sent now.
    pub fn due(&mut self, now: Duration) -> Vec<Outgoing> {
        let mut flying = self
            .items
            .values()
            .filter(|item| item.flight.is_some())
            .count();
        let mut outgoing = Vec::new();
        for ((key, _), item) in &mut self.items {
            if flying >= FLYING_MAX {
                break;
            }
            if item.flight.is_none() && item.due <= now {
                self.flights += 1;
                item.flight = Some(self.flights);
                flying += 1;
                outgoing.push(Outgoing {
                    key: *key,
                    flight: self.flights,
                    report: item.report.clone(),
                    traceparent: item.traceparent.clone(),
                });
            }
        }
        outgoing
    }

    /// When something is due next; `None` when nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let waiting = self.items.values().filter(|item| item.flight.is_none());
        waiting.map(|item| item.due).min().filter(|_| {
            self.items
                .values()
                .filter(|item| item.flight.is_some())
                .count()
                < FLYING_MAX
        })
    }

    /// How many results the owner does not have.
    #[must_use]
    pub fn results(&self) -> usize {
        self.items
            .keys()
            .filter(|(_, slot)| *slot == Slot::Result)
            .count()
    }

    /// The owner answered, or nobody did. Says whether the owner now has the result.
    pub fn answered(
        &mut self,
        outgoing: &Outgoing,
        verdict: Option<Verdict>,
        now: Duration,
    ) -> bool {
        let slot = match outgoing.report {
            Report::Step(..) => Slot::Step,
            Report::Result(_) => Slot::Result,
        };
        let place = (outgoing.key, slot);
        let Some(item) = self
            .items
            .get_mut(&place)
            .filter(|item| item.flight == Some(outgoing.flight))
        else {
            return false;
        };
        match verdict {
            Some(Verdict::Applied | Verdict::Duplicate | Verdict::Fenced) => {
                if let Report::Step(word, _) = item.report {
                    self.known.insert(outgoing.key, word);
                }
                self.items.remove(&place);
                slot == Slot::Result
            }
            Some(Verdict::Retry) | None => {
                item.due = now + backoff::pause(item.tries);
                item.tries = item.tries.saturating_add(1);
                item.flight = None;
                false
            }
        }
    }

    /// A new connection: everything that is not answered is said again at once.
    pub fn reconnected(&mut self, now: Duration) {
        for item in self.items.values_mut() {
            item.flight = None;
            item.tries = 0;
            item.due = item.due.min(now);
        }
    }
}

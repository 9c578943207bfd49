//! What is known of one attempt.

use std::sync::Arc;
use std::time::Duration;

use contract::agent::Step;
use contract::order::Task;
use domain::action::{ActionKind, Outcome};
use domain::{SessionId, Timestamp};

use crate::engine::{Effect, StepWord};
use crate::journal::record::{Ended, Key};

/// The code of the error with which an action ends whose place in the order another action has.
pub const PLACE_TAKEN: &str = "place-taken";

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In the journal, or on the way into it.
    Accepted {
        /// Whether it is in the journal.
        durable: bool,
    },
    /// Its beginning is on the way into the journal: too late to cancel, except for a delay that follows.
    Starting,
    /// It began with a delay that may still be cancelled.
    Waiting {
        /// When the delay ends, since boot.
        until: Duration,
    },
    /// It is being executed.
    Running,
    /// It is over.
    Ended {
        /// How.
        ended: Arc<Ended>,
        /// Whether that is in the journal.
        durable: bool,
    },
}

/// An attempt.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub seq: i64,
    /// What it is; absent when it is over.
    pub task: Option<Box<Task>>,
    /// When the server signed it.
    pub issued: Timestamp,
    /// When it was accepted.
    pub accepted_at: Option<Timestamp>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// In which life of the agent and in which boot of the machine it began.
    pub began_in: Option<Box<(SessionId, String)>>,
    /// Where it stands.
    pub phase: Phase,
    /// Somebody asked that it should not begin, while its beginning was on the way into the journal.
    pub cancel: bool,
}

impl Entry {
    /// An attempt that is accepted now.
    #[must_use]
    pub fn accepted(task: Task, issued: Timestamp, at: Timestamp, durable: bool) -> Self {
        Self {
            seq: task.seq,
            task: Some(Box::new(task)),
            issued,
            accepted_at: Some(at),
            started_at: None,
            began_in: None,
            phase: Phase::Accepted { durable },
            cancel: false,
        }
    }

    /// An attempt that is over.
    #[must_use]
    pub fn ended(ended: Arc<Ended>, durable: bool) -> Self {
        Self {
            seq: ended.seq,
            task: None,
            issued: ended.finished_at,
            accepted_at: ended.accepted_at,
            started_at: ended.started_at,
            began_in: None,
            phase: Phase::Ended { ended, durable },
            cancel: false,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Option<ActionKind> {
        match &self.phase {
            Phase::Ended { ended, .. } => Some(ended.kind),
            _ => self.task.as_ref().map(|task| task.kind),
        }
    }

    /// Whether another attempt of the action may follow this one.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        match &self.phase {
            Phase::Ended { ended, .. } => ended.idempotent && ended.outcome == Outcome::Interrupted,
            _ => false,
        }
    }

    /// Whether its place is its own: not when it was refused because another action has that place.
    #[must_use]
    pub fn has_place(&self) -> bool {
        match &self.phase {
            Phase::Ended { ended, .. } => ended
                .error
                .as_ref()
                .is_none_or(|error| error.code != PLACE_TAKEN),
            _ => true,
        }
    }

    /// What to say of it when the server offers it again, or asks outright; `None` while what could be said is not
    /// yet durable.
    #[must_use]
    pub fn answer(&self, key: Key, asked: bool) -> Option<Effect> {
        match &self.phase {
            Phase::Ended {
                ended,
                durable: true,
            } => Some(Effect::Result {
                report: ended.report(),
                traceparent: ended.traceparent.clone(),
            }),
            Phase::Accepted { durable: true } => self.step(key, StepWord::Accepted, asked),
            Phase::Waiting { .. } | Phase::Running => self.step(key, StepWord::Started, asked),
            _ => None,
        }
    }

    /// What to say of a step.
    #[must_use]
    pub fn step(&self, key: Key, word: StepWord, asked: bool) -> Option<Effect> {
        let at = match word {
            StepWord::Accepted => self.accepted_at?,
            StepWord::Started => self.started_at?,
        };
        let traceparent = self.task.as_ref().and_then(|task| task.traceparent.clone());
        let step = Step {
            action: key.action,
            attempt: key.attempt,
            at,
        };
        Some(Effect::Step {
            word,
            step,
            asked,
            traceparent,
        })
    }
}

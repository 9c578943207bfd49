//! What the journal remembers. `Ended` stands for itself, so that an ended action needs no other record.

use std::sync::Arc;

use contract::agent::{ActionError, ResultReport};
use contract::order::Task;
use domain::action::{ActionKind, Outcome};
use domain::{ActionId, JournalId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// Version of the records' form.
pub const VERSION: u32 = 1;
/// The most bytes of a result that the journal keeps; the reserve is counted with it.
pub const RESULT_MAX_BYTES: usize = 2 * 1024;
/// The most characters of an error's message that the journal keeps.
pub const MESSAGE_MAX_CHARS: usize = 512;

/// One attempt of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The action.
    pub action: ActionId,
    /// Its attempt, from 1.
    pub attempt: i32,
}

impl Key {
    /// The attempt that a task asks for.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self {
            action: task.action,
            attempt: task.attempt,
        }
    }
}

/// What an action gave, as text: thousands are remembered for days, and as text each takes a tenth of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "serde_json::Value", into = "serde_json::Value")]
pub struct Given(Box<str>);

impl From<serde_json::Value> for Given {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<Given> for serde_json::Value {
    fn from(given: Given) -> Self {
        serde_json::from_str(&given.0).unwrap_or_default()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The action.
    pub action: ActionId,
    /// Its attempt.
    pub attempt: i32,
    /// Its place.
    pub seq: i64,
    /// Its kind.
    pub kind: ActionKind,
    /// Until when it could have begun; it is remembered for a day more.
    pub not_after: Timestamp,
    /// Whether it may be run again after an interruption.
    pub idempotent: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Given>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ActionError>,
    /// When it entered the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The trace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Whether the owner has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

impl Ended {
    /// Which attempt.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            action: self.action,
            attempt: self.attempt,
        }
    }

    /// What is reported.
    #[must_use]
    pub fn report(&self) -> ResultReport {
        ResultReport {
            action: self.action,
            attempt: self.attempt,
            outcome: self.outcome,
            result: self.result.clone().map(Into::into),
            error: self.error.clone(),
            accepted_at: self.accepted_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }

    /// The owner has it: what is kept is for being asked again, not for the trace, which is over.
    pub fn settle(&mut self) {
        self.reported = true;
        self.traceparent = None;
    }

    /// Cuts what would not fit into the reserve: an outcome must always be writable.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let bytes = self.result.as_ref().map_or(0, |result| result.0.len());
        if bytes > RESULT_MAX_BYTES {
            let omitted =
                serde_json::json!({ "omitted": "the result was too long", "bytes": bytes });
            self.result = Some(omitted.into());
        }
        if let Some(error) = &mut self.error
            && error.message.chars().count() > MESSAGE_MAX_CHARS
        {
            error.message = error.message.chars().take(MESSAGE_MAX_CHARS).collect();
        }
        self
    }
}

/// What is shared is written as it is.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "r", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Record {
    /// The first of a file: the journal goes on from here.
    Begin {
        /// Version of the form.
        v: u32,
        /// The journal.
        journal: JournalId,
        /// How many entries there were before.
        entries: i64,
        /// The hash of the last of them.
        head: String,
    },
    /// A life of the agent begins.
    Life {
        /// It.
        session: SessionId,
        /// The boot of the machine.
        boot: String,
        /// When.
        at: Timestamp,
    },
    /// An action that is to be executed.
    Accepted {
        /// It.
        task: Task,
        /// When, by the agent's clock.
        at: Timestamp,
        /// When the server signed it, by the server's clock.
        issued: Timestamp,
    },
    /// An attempt begins.
    Started {
        /// The action.
        action: ActionId,
        /// Its attempt.
        attempt: i32,
        /// When.
        at: Timestamp,
        /// The life of the agent that begins it.
        session: SessionId,
        /// The boot of the machine in which it begins.
        boot: String,
    },
    /// An attempt ended, or never began. Shared with the engine: a file written anew holds thousands.
    Ended(#[serde(with = "shared")] Arc<Ended>),
    /// The owner has the outcome.
    Reported {
        /// The action.
        action: ActionId,
        /// Its attempt.
        attempt: i32,
    },
    /// Places that need nothing more: all up to `through`, and these ranges.
    Known {
        /// All up to here.
        through: i64,
        /// From and to, inclusive.
        ranges: Vec<(i64, i64)>,
    },
    /// The server trusts this machine no more, or again.
    Quarantine {
        /// Why not; absent when it is trusted.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The floor of the clock.
    Clock {
        /// The floor.
        at: Timestamp,
        /// In which boot it was noted.
        boot: String,
        /// How long after that boot.
        uptime_ms: u64,
    },
}

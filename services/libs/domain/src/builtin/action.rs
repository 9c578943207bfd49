//! What `builtin/action` takes.

use std::ops::RangeInclusive;

use chrono::Duration;
use serde_json::{Map, Value};

use super::{ConfigError, Given, required};
use crate::action::{ActionKind, NOT_AFTER_MAX, Payload};
use crate::ids::MachineId;

/// How long an action may wait for its machine, in milliseconds: at most thirty days.
pub const NOT_AFTER_MS: RangeInclusive<u64> = 1..=NOT_AFTER_MAX.num_milliseconds() as u64;

/// What `builtin/action` takes: `{machineId, kind, payload?, notAfterMs?}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionConfig<'a> {
    /// The machine.
    pub machine: MachineId,
    /// What it is told to do.
    pub kind: ActionKind,
    /// With what; `{}` when nothing is said, which has to be enough for the kind.
    pub payload: Option<&'a Value>,
    /// How long the action may wait for its machine.
    pub not_after: Option<Duration>,
}

impl<'a> ActionConfig<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(given: Given<'a>) -> Result<Self, ConfigError> {
        given.only(&["machineId", "kind", "payload", "notAfterMs"])?;
        let machine = required("machineId", given.text("machineId")?)?
            .parse::<MachineId>()
            .map_err(|error| ConfigError::new("machineId", error.to_string()))?;
        let kind = required("kind", given.text("kind")?)?
            .parse::<ActionKind>()
            .map_err(|message| ConfigError::new("kind", message))?;
        let payload = given.value("payload");
        let empty = Value::Object(Map::new());
        Payload::parse(kind, payload.unwrap_or(&empty))
            .map_err(|error| ConfigError::new(error.path, error.message))?;
        let not_after = given.whole("notAfterMs", &NOT_AFTER_MS)?;
        Ok(Self {
            machine,
            kind,
            payload,
            not_after: not_after
                .map(|ms| Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX))),
        })
    }
}

//! The installation's state. Here the documented object is what travels.

use poem_openapi::{Enum, Object};
use serde::Serialize;

use crate::json::Documented;

/// Whether everything answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusWord {
    /// It does.
    Ok,
    /// A part does not.
    Degraded,
    /// It does not.
    Away,
}

/// One part of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Object, Serialize)]
pub struct PartStatus {
    /// Its name.
    name: String,
    status: StatusWord,
}

impl PartStatus {
    /// A part that answers, or does not.
    #[must_use]
    pub fn new(name: &str, answers: bool) -> Self {
        let status = if answers {
            StatusWord::Ok
        } else {
            StatusWord::Away
        };
        Self {
            name: name.to_owned(),
            status,
        }
    }
}

/// What answers, and which version this is. `OK` when every part does, else `DEGRADED`.
#[derive(Clone, Debug, PartialEq, Eq, Object, Serialize)]
pub struct Status {
    status: StatusWord,
    /// The version of the gateway that answers.
    version: String,
    /// The parts.
    parts: Vec<PartStatus>,
}

impl Status {
    /// The state that these parts make.
    #[must_use]
    pub fn of(parts: Vec<PartStatus>) -> Self {
        let all = parts.iter().all(|part| part.status == StatusWord::Ok);
        let status = if all {
            StatusWord::Ok
        } else {
            StatusWord::Degraded
        };
        Self {
            status,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parts,
        }
    }
}

impl Documented for Status {
    type Schema = Self;
}

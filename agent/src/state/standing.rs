//! How the agent stands, in a file beside its state: what `status` shows while another process is the agent. It is not
//! synced: after a crash of the machine it may be old, and no agent runs then that it would speak for.

use std::path::Path;

use domain::{ActionId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::AgentError;

/// The file.
pub const STANDING: &str = "status.json";
/// What to do when it is damaged.
const DAMAGED: &str = "remove it: an agent that runs writes it anew";
/// The most open actions that are named.
pub const OPEN_MAX: usize = 10;

/// Whether the bus is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Connection {
    /// It is.
    Connected,
    /// Not now; the agent keeps trying.
    Connecting,
    /// The server refuses this machine's key; the agent keeps trying.
    Refused,
}

/// An action that is accepted and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenAction {
    /// The action.
    pub action: ActionId,
    /// Its attempt.
    pub attempt: i32,
    /// Its kind; absent when only its place is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What was refused last: an order that could not be believed, or one that the owner's policy forbids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRefused {
    /// When.
    pub at: Timestamp,
    /// What it was.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// How the agent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its life.
    pub session: SessionId,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether the bus is reached.
    pub connection: Connection,
    /// Since when.
    pub since: Timestamp,
    /// The server of the bus, while it is reached, as the enrolment names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// What the server says when it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// Why the server suspects that this is a copy, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// How many actions are accepted and not ended.
    pub open: usize,
    /// The first of them.
    pub open_actions: Vec<OpenAction>,
    /// How many results the server does not have.
    pub unreported: usize,
    /// How many messages were refused since the start.
    pub refused: u64,
    /// The last refusal since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<LastRefused>,
    /// Samples dropped for want of room since the start.
    pub samples_dropped: u64,
    /// Samples that the server refused for good since the start: of a time that cannot be, most often.
    #[serde(default)]
    pub samples_refused: u64,
}

impl Standing {
    /// What a folder says; `None` when no agent has run there yet. The folder's lock is not needed.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, AgentError> {
        super::files::read_json(&folder.join(STANDING), DAMAGED)
    }

    /// Writes it, replacing the old one.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&new, text)?;
        std::fs::rename(&new, path)
    }
}

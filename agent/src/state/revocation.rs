//! That the server has revoked this machine's key, as this machine remembers it: for those who ask why nothing works.

use std::io::ErrorKind;
use std::path::Path;

use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::files::{read_json, write_json};

/// The file.
const REVOCATION: &str = "revoked.json";
/// What to do when it is damaged.
const DAMAGED: &str = "remove it: when the key is revoked, the server says so again";

/// What the server said of this machine's key. It is no proof: the server is asked again whenever that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// When this machine heard of it; it was revoked before.
    pub heard_at: Timestamp,
}

impl Revocation {
    /// What a folder remembers; `None` when it was never heard of. The folder's lock is not needed.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn look(folder: &Path) -> Result<Option<Self>, AgentError> {
        read_json(&folder.join(REVOCATION), DAMAGED)
    }

    /// Remembers it. What was remembered before stays: the first time is the nearest to when it was revoked.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be written.
    pub fn note(folder: &StateFolder, now: Timestamp) -> Result<Self, AgentError> {
        if let Ok(Some(noted)) = Self::look(folder.path()) {
            return Ok(noted);
        }
        let this = Self { heard_at: now };
        write_json(&folder.file(REVOCATION), &this)?;
        Ok(this)
    }

    /// Forgets it: the server accepts the key, whatever it said before. (It may have been restored from a backup.)
    ///
    /// # Errors
    /// [`AgentError::State`] when the file cannot be removed.
    pub fn forget(folder: &StateFolder) -> Result<(), AgentError> {
        let path = folder.file(REVOCATION);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(AgentError::state(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Why nothing goes on, for whoever called the agent.
    #[must_use]
    pub fn error(&self) -> AgentError {
        AgentError::Revoked(format!("this machine heard of it at {}", self.heard_at))
    }
}

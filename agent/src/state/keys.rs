//! The keys whose orders the agent obeys: pinned at enrolment, changed only by an order that one of them signed.

use std::path::Path;

use domain::Timestamp;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::files::{read_json, write_json};

/// The file of a rotation.
const KEYS: &str = "action-keys.json";
/// What to do when it is damaged: to obey those of the enrolment again would trust keys that were given up.
const DAMAGED: &str =
    "restore it from a backup, or enrol this machine anew with an empty state folder";
/// The most keys that are pinned at once.
pub const KEYS_MAX: usize = 8;

/// The pinned keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PinnedKeys {
    /// Public keys, nkey text.
    pub keys: Vec<String>,
    /// When the order that brought them was signed; absent for those of the enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl PinnedKeys {
    /// The keys of the enrolment, or of the last rotation.
    ///
    /// # Errors
    /// [`AgentError::State`] when they cannot be read.
    pub fn read(folder: &StateFolder, of_enrolment: &[String]) -> Result<Self, AgentError> {
        Self::look(folder.path(), of_enrolment)
    }

    /// The same, by the folder's path and without its lock: for those who only look.
    ///
    /// # Errors
    /// [`AgentError::State`] when they cannot be read.
    pub fn look(folder: &Path, of_enrolment: &[String]) -> Result<Self, AgentError> {
        let rotated = read_json::<Self>(&folder.join(KEYS), DAMAGED)?;
        Ok(rotated.unwrap_or_else(|| Self {
            keys: of_enrolment.to_vec(),
            since: None,
        }))
    }

    /// The keys after a rotation.
    ///
    /// # Errors
    /// Why it is refused: older than the last one (a replay), empty, too many, or not keys.
    pub fn rotated(&self, keys: Vec<String>, at: Timestamp) -> Result<Self, String> {
        if self.since.is_some_and(|since| at <= since) {
            return Err("it is not newer than the last rotation".into());
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(format!(
                "it names {} keys; 1 to {KEYS_MAX} are taken",
                keys.len()
            ));
        }
        for key in &keys {
            KeyPair::from_public_key(key)
                .map_err(|error| format!("`{key}` is not a public key: {error}"))?;
        }
        Ok(Self {
            keys,
            since: Some(at),
        })
    }

    /// Keeps them.
    ///
    /// # Errors
    /// [`AgentError::State`] when they cannot be written.
    pub fn write(&self, folder: &StateFolder) -> Result<(), AgentError> {
        write_json(&folder.file(KEYS), self)
    }
}

//! The machine's key, and its place in the fleet.

use contract::identity::Enrolled;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::files::{read_json, write_atomic, write_json};

/// The seed; it never leaves the machine.
const SEED: &str = "seed.nk";
/// The enrolment.
const ENROLMENT: &str = "enrolment.json";
/// The authority of the bus, when the enrolment names one.
const BUS_CA: &str = "bus-ca.pem";

/// What the server said at enrolment, and which server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// The server.
    pub url: String,
    /// The public half of the machine's key.
    pub public_key: String,
    /// What it said.
    pub enrolled: Enrolled,
}

/// The machine's key.
pub struct MachineKey {
    /// The pair.
    pub pair: KeyPair,
    /// The seed's text, for the bus.
    pub seed: String,
}

impl std::fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineKey")
            .field("public", &self.pair.public_key())
            .finish_non_exhaustive()
    }
}

impl MachineKey {
    /// The key of a folder; `None` when it has none yet.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn read(folder: &StateFolder) -> Result<Option<Self>, AgentError> {
        Self::of_file(&folder.file(SEED))
    }

    fn of_file(path: &std::path::Path) -> Result<Option<Self>, AgentError> {
        let seed = match std::fs::read_to_string(path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AgentError::state(path, error)),
        };
        let pair = KeyPair::from_seed(&seed).map_err(|error| AgentError::state(path, error))?;
        Ok(Some(Self { pair, seed }))
    }

    /// The same, by the folder's path and without its lock: for those who only look.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn look(folder: &std::path::Path) -> Result<Option<Self>, AgentError> {
        Self::of_file(&folder.join(SEED))
    }

    /// The key of a folder, made and synced to the disk when there is none: whatever happens during the enrolment,
    /// a repetition uses the same key.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read or written.
    pub fn read_or_make(folder: &StateFolder) -> Result<Self, AgentError> {
        if let Some(key) = Self::read(folder)? {
            return Ok(key);
        }
        let pair = KeyPair::new_user();
        let seed = pair
            .seed()
            .map_err(|error| AgentError::Internal(format!("the key has no seed: {error}")))?;
        write_atomic(&folder.file(SEED), format!("{seed}\n").as_bytes())?;
        Ok(Self { pair, seed })
    }
}

impl Enrolment {
    /// The enrolment of a folder; `None` when it has none yet.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn read(folder: &StateFolder) -> Result<Option<Self>, AgentError> {
        read_json(&folder.file(ENROLMENT))
    }

    /// The same, by the folder's path and without its lock: for those who only look.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn look(folder: &std::path::Path) -> Result<Option<Self>, AgentError> {
        read_json(&folder.join(ENROLMENT))
    }

    /// Keeps the enrolment.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be written.
    pub fn write(&self, folder: &StateFolder) -> Result<(), AgentError> {
        write_json(&folder.file(ENROLMENT), self)
    }

    /// The bus' servers, in the order in which they are tried. One that this agent does not go to is left out, and said.
    ///
    /// # Errors
    /// [`AgentError::Config`] when none is left.
    pub fn bus_urls(&self) -> Result<Vec<String>, AgentError> {
        let mut left_out = Vec::new();
        let mut urls = Vec::new();
        for url in &self.enrolled.nats_urls {
            match bus::check_agent_url(url) {
                Ok(()) => urls.push(url.clone()),
                Err(error) => {
                    tracing::error!(%error, "a bus server of the enrolment is left out");
                    left_out.push(error.to_string());
                }
            }
        }
        if urls.is_empty() {
            let reasons = left_out.join("; ");
            return Err(AgentError::Config(format!(
                "the enrolment names no bus server that can be used: {reasons}"
            )));
        }
        Ok(urls)
    }

    /// The file with the bus' authority, when the enrolment names one.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be written.
    pub fn bus_ca(&self, folder: &StateFolder) -> Result<Option<std::path::PathBuf>, AgentError> {
        let Some(pem) = &self.enrolled.nats_ca else {
            return Ok(None);
        };
        let path = folder.file(BUS_CA);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(pem) {
            write_atomic(&path, pem.as_bytes())?;
        }
        Ok(Some(path))
    }
}

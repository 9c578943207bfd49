//! The machine's key, and its place in the fleet.

use std::fs::File;
use std::io::Read;
use std::path::Path;

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
/// What to do about an enrolment that is damaged: the server knows the machine by its key, which is in another file, and
/// gives the same answer again for the same token.
const DAMAGED: &str = "remove it and run `dashfleet-agent enroll` with the token that this machine enrolled with, and it stays \
                       the same machine; without that token, remove the whole folder and enrol it as a new one";
/// The authority of the bus, when the enrolment names one.
const BUS_CA: &str = "bus-ca.pem";
/// The longest file of a seed; a seed has 58 bytes.
const SEED_MAX_BYTES: u64 = 1_024;

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
    /// The key of a folder; `None` when it has none yet. One that others may read is not used, as with OpenSSH: to make the
    /// file private without a word would hide that somebody else may be this machine by now.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read, is no key, or others than its owner may use the file.
    pub fn read(folder: &StateFolder) -> Result<Option<Self>, AgentError> {
        let path = folder.file(SEED);
        Self::of_file(&path, |file| {
            crate::platform::check_private(file).map_err(|reason| {
                let advice = crate::platform::private_advice(&path);
                AgentError::state(&path, format!("{reason}; {advice}"))
            })
        })
    }

    fn of_file(
        path: &Path,
        check: impl FnOnce(&File) -> Result<(), AgentError>,
    ) -> Result<Option<Self>, AgentError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AgentError::state(path, error)),
        };
        // Of the opened file: what is looked at is what is read.
        check(&file)?;
        let mut text = String::new();
        file.take(SEED_MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| AgentError::state(path, error))?;
        let seed = text.trim().to_owned();
        let pair = KeyPair::from_seed(&seed).map_err(|error| {
            let advice = "enrol this machine anew with an empty state folder";
            AgentError::state(
                path,
                format!("the file is damaged: it holds no key ({error}); {advice}"),
            )
        })?;
        Ok(Some(Self { pair, seed }))
    }

    /// The same, by the folder's path, without its lock, and whoever may read it: for those who only look.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read or is no key.
    pub fn look(folder: &Path) -> Result<Option<Self>, AgentError> {
        Self::of_file(&folder.join(SEED), |_| Ok(()))
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
    /// [`AgentError::State`] when it cannot be read, or is damaged.
    pub fn read(folder: &StateFolder) -> Result<Option<Self>, AgentError> {
        Self::look(folder.path())
    }

    /// The same, by the folder's path and without its lock: for those who only look.
    ///
    /// # Errors
    /// As [`Enrolment::read`].
    pub fn look(folder: &Path) -> Result<Option<Self>, AgentError> {
        read_json(&folder.join(ENROLMENT), DAMAGED)
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

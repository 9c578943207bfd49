//! The seal: a state folder works on the machine that made it and refuses to start on another.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::files::{read_json, write_json};

/// The file.
const SEAL: &str = "seal.json";
/// What to do when it is damaged.
const DAMAGED: &str = "enrol this machine anew with an empty state folder";

/// What a machine is, as hashes: the ids themselves are nobody's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    machine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<String>,
}

fn hash(kind: &str, id: &str) -> String {
    let digest = Sha256::new()
        .chain_update(format!("dashfleet/seal/1\0{kind}\0{id}"))
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Seal {
    /// The seal of a machine with these ids.
    #[must_use]
    pub fn of(machine_id: &str, hardware_id: Option<&str>) -> Self {
        Self {
            machine: hash("machine", machine_id),
            hardware: hardware_id.map(|id| hash("hardware", id)),
        }
    }

    /// The seal of this machine.
    ///
    /// # Errors
    /// [`AgentError::Config`] when the machine has no id: then a copy could not be told from the original.
    pub async fn of_this_machine(machine_id_file: Option<&Path>) -> Result<Self, AgentError> {
        let id = crate::platform::machine_id(machine_id_file).await.map_err(|error| {
            AgentError::Config(format!(
                "this machine has no id: {error}; set DASHFLEET_AGENT_MACHINE_ID to a file that has one"
            ))
        })?;
        Ok(Self::of(&id, crate::platform::hardware_id().as_deref()))
    }

    /// Whether `now` is the machine that was sealed.
    ///
    /// # Errors
    /// [`AgentError::Sealed`] saying what differs.
    pub fn check(&self, now: &Self) -> Result<(), AgentError> {
        if self.machine != now.machine {
            return Err(AgentError::Sealed(
                "it belongs to another machine: its machine-id differs from this one's (a copied folder, or a reinstalled system); \
                 enrol this machine with an empty state folder"
                    .into(),
            ));
        }
        match (&self.hardware, &now.hardware) {
            (Some(sealed), Some(here)) if sealed != here => Err(AgentError::Sealed(
                "it belongs to another machine: its hardware UUID (DMI) differs from this one's (a copied disk or a cloned virtual machine); \
                 enrol this machine with an empty state folder"
                    .into(),
            )),
            // An agent that may not read the hardware's id now still has the machine's.
            _ => Ok(()),
        }
    }

    /// Checks the seal of a folder, which must have one: a copy is not made an original by removing a file.
    ///
    /// # Errors
    /// [`AgentError::Sealed`] when it is another machine's or missing, [`AgentError::State`] when it cannot be read.
    pub fn verify(&self, folder: &StateFolder) -> Result<(), AgentError> {
        self.verify_file(&folder.file(SEAL))
    }

    fn verify_file(&self, file: &std::path::Path) -> Result<(), AgentError> {
        match read_json::<Self>(file, DAMAGED)? {
            Some(sealed) => sealed.check(self),
            None => Err(AgentError::Sealed(format!(
                "its {SEAL} is missing, and only `enroll` makes one; enrol this machine with an empty state folder"
            ))),
        }
    }

    /// The same, by the folder's path and without its lock: for those who only look.
    ///
    /// # Errors
    /// As [`Seal::verify`].
    pub fn look(&self, folder: &std::path::Path) -> Result<(), AgentError> {
        self.verify_file(&folder.join(SEAL))
    }

    /// Seals a folder that is being enrolled, or checks the seal that it has.
    ///
    /// # Errors
    /// [`AgentError::Sealed`], [`AgentError::State`].
    pub fn apply(&self, folder: &StateFolder) -> Result<(), AgentError> {
        match read_json::<Self>(&folder.file(SEAL), DAMAGED)? {
            Some(sealed) => sealed.check(self),
            None => write_json(&folder.file(SEAL), self),
        }
    }
}

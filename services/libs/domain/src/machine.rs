//! What a machine is, seen from outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether a machine can be reached, and whether it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MachineStatus {
    /// It holds a connection to the bus.
    Online,
    /// It holds none.
    Offline,
    /// Its journal contradicts what it said before: perhaps a clone. Nothing is offered until an operator decides.
    Quarantined,
    /// Its key is no longer accepted, for ever.
    Revoked,
}

impl MachineStatus {
    /// All statuses.
    pub const ALL: [Self; 4] = [
        Self::Online,
        Self::Offline,
        Self::Quarantined,
        Self::Revoked,
    ];

    /// The name as it is stored and sent: `ONLINE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
            Self::Quarantined => "QUARANTINED",
            Self::Revoked => "REVOKED",
        }
    }
}

impl fmt::Display for MachineStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MachineStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("unknown machine status `{text}`; known are ONLINE, OFFLINE, QUARANTINED, REVOKED"))
    }
}

//! What a machine is, seen from outside, and what an operator may say of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{NAME_MAX_CHARS, check_name, check_text};

/// The longest name that an operator gives a machine, in characters.
pub const DISPLAY_NAME_MAX_CHARS: usize = NAME_MAX_CHARS;
/// The longest notes, in characters.
pub const NOTES_MAX_CHARS: usize = 4_000;
/// The most machines whose labels one request edits.
pub const LABEL_MANY_MAX: usize = 1_000;

/// Checks a name that an operator gives a machine: one line that reads as it looks.
///
/// # Errors
/// What is wrong with it.
pub fn check_display_name(name: &str) -> Result<(), String> {
    check_name(name)
}

/// Checks notes: lines of text.
///
/// # Errors
/// What is wrong with them.
pub fn check_notes(notes: &str) -> Result<(), String> {
    check_text(notes, NOTES_MAX_CHARS, |c| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_says_reads_as_it_looks() {
        for name in ["web-1", "Büro, 2. Stock", "機械"] {
            assert_eq!(check_display_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            " ",
            " web",
            "web\n",
            "a\nb",
            "a\0b",
            "web\u{202E}1",
            "a\u{2028}b",
        ] {
            assert!(check_display_name(name).is_err(), "{name:?}");
        }
        assert!(check_display_name(&"ü".repeat(DISPLAY_NAME_MAX_CHARS)).is_ok());
        assert!(check_display_name(&"ü".repeat(DISPLAY_NAME_MAX_CHARS + 1)).is_err());
        assert_eq!(check_notes("rack 4\r\n\tdisk swapped\n"), Ok(()));
        assert!(check_notes("a\u{1b}[31mb").is_err() && check_notes("\u{2066}").is_err());
        assert!(check_notes(&"x".repeat(NOTES_MAX_CHARS + 1)).is_err());
    }
}

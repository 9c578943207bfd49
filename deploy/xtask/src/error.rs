//! Everything that can go wrong in the launcher, in words for the person who started it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of anything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The launcher's only error type.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(String),
    /// A file or a process could not be worked with.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A step failed; the message says which and what to do.
    Failed(String),
    /// A child failed; its last words are shown and its log is named.
    Child {
        /// Which one, and how it ended.
        what: String,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of that log.
        tail: String,
    },
    /// A signal asked the launcher to stop.
    Interrupted,
}

impl Error {
    /// An [`Error::Io`] that says what was being done to which path.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what: format!("{doing} {}", path.display()),
            source,
        }
    }

    /// An [`Error::Failed`] with this message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// What the process exits with: 64 for a wrong command line, 130 after Ctrl-C, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => write!(out, "{message}\nSee `cargo xtask help`."),
            Self::Io { what, source } => write!(out, "{what}: {source}"),
            Self::Failed(message) => out.write_str(message),
            Self::Child { what, log, tail } if tail.is_empty() => {
                write!(out, "{what}; its log {} is empty", log.display())
            }
            Self::Child { what, log, tail } => {
                write!(out, "{what}. The end of {}:\n{tail}", log.display())
            }
            Self::Interrupted => out.write_str("stopped by a signal"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

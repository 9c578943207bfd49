//! What can end the agent, and the exit code of each: the one table, which README shows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why the agent ends, in words for the machine's owner.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A variable, an option or the policy file cannot be used.
    #[error("bad configuration: {0}")]
    Config(String),
    /// `run` before `enroll`.
    #[error("not enrolled: {} has no enrolment; run `dashfleet-agent enroll --url URL --token-file FILE` first", .0.display())]
    NotEnrolled(PathBuf),
    /// The server does not take this machine: the server's own words.
    #[error("the server refused the enrolment: {0}")]
    EnrolmentRefused(String),
    /// This agent does not take the server's enrolment: orders would come from another than its owner expects.
    #[error("this agent refused the enrolment: {0}")]
    KeyRefused(String),
    /// The state folder was made on another machine, or nothing says on which.
    #[error("this state folder is not used on this machine: {0}")]
    Sealed(String),
    /// The server says that this key is revoked.
    #[error(
        "the server has revoked this machine's key: {0}. To use the machine again, run `dashfleet-agent uninstall` or remove \
         its state folder, then enrol it with a new token"
    )]
    Revoked(String),
    /// The state folder cannot be used.
    #[error("the state folder cannot be used: {}: {reason}", .path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent could not do its own work.
    #[error("{0}")]
    Internal(String),
    /// The folder is enrolled with another server.
    #[error("already enrolled with {0}; for another server use another, empty state folder")]
    EnrolledElsewhere(String),
    /// `diagnose` found something, or `uninstall` could not do everything. What it is was printed already.
    #[error("{0}")]
    Unwell(String),
    /// The server cannot be reached now.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
}

impl AgentError {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Unwell(_) => 1,
            Self::Config(_) => 64,
            Self::NotEnrolled(_) => 65,
            Self::EnrolmentRefused(_) | Self::KeyRefused(_) => 66,
            Self::Sealed(_) => 67,
            Self::Revoked(_) => 68,
            Self::State { .. } => 69,
            Self::Internal(_) => 70,
            Self::EnrolledElsewhere(_) => 73,
            Self::Unreachable(_) => 75,
        }
    }

    /// An error of a file or folder of the state.
    pub fn state(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::State {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The exit code, for `main`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl From<runtime::ConfigError> for AgentError {
    fn from(error: runtime::ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

//! The state folder: everything that the agent keeps, and the lock that only one agent process holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::AgentError;

pub mod enrolment;
pub mod files;
pub mod keys;
pub mod seal;

/// The lock file.
const LOCK: &str = "agent.lock";
/// How long to wait for a predecessor that is just ending (a restart in place).
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The state folder, held by this process alone.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Takes the folder; makes it when `create` is set.
    ///
    /// # Errors
    /// [`AgentError::State`] when it is absent, not writable, or held by another agent.
    pub fn take(path: &Path, create: bool) -> Result<Self, AgentError> {
        if create {
            crate::platform::private_folder(path)
                .map_err(|error| AgentError::state(path, error))?;
        }
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| AgentError::state(&lock_path, error))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        path: path.to_owned(),
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(AgentError::state(path, "another agent process is using it"));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(AgentError::state(&lock_path, error));
                }
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

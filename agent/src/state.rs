//! The state folder: everything that the agent keeps, and the lock that only one agent process holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::AgentError;

pub mod enrolment;
pub mod files;
pub mod keys;
pub mod revocation;
pub mod seal;
pub mod standing;

/// The lock file.
const LOCK: &str = "agent.lock";
/// How long to wait for a predecessor that is just ending (a restart in place).
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often to look meanwhile.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
/// What is said of a folder in use.
const HELD: &str = "another agent process is using it";

/// Files that say whom the agent obeys, and on which machine: nobody else may write them.
pub const TRUSTED: [&str; 3] = ["enrolment.json", "seal.json", "action-keys.json"];

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
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(AgentError::state(path, HELD)),
            Err(TryLockError::Error(error)) => Err(AgentError::state(&lock_path, error)),
        }
    }

    /// The same, waiting a little for a predecessor that is just ending.
    ///
    /// # Errors
    /// As [`StateFolder::take`].
    pub async fn take_patiently(path: &Path, create: bool) -> Result<Self, AgentError> {
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match Self::take(path, create) {
                Err(AgentError::State { reason, .. })
                    if reason == HELD && Instant::now() < until =>
                {
                    tokio::time::sleep(LOCK_AGAIN).await;
                }
                taken => return taken,
            }
        }
    }

    /// Whether an agent process holds this folder. It is asked without making anything there.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let Ok(lock) = OpenOptions::new().write(true).open(path.join(LOCK)) else {
            return false;
        };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Whether only root and the agent's own user could have written what it is told to obey: the files, and the folder
    /// that they are in.
    ///
    /// # Errors
    /// [`AgentError::State`] naming the file, who else could have, and what to do.
    pub fn check_trusted(&self) -> Result<(), AgentError> {
        for name in TRUSTED {
            let path = self.file(name);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(AgentError::state(&path, error)),
            };
            crate::platform::check_trusted(&file, &path).map_err(|reason| {
                let advice = crate::platform::trusted_advice(&self.path);
                AgentError::state(&path, format!("{reason}; {advice}"))
            })?;
        }
        Ok(())
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

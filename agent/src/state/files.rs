//! Small files that are either the old or the new one after a crash, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::error::AgentError;

/// Writes a file that only its owner can read: a new file, synced, renamed over the old one, and the folder synced.
///
/// # Errors
/// [`AgentError::State`] naming the file.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let written = || -> io::Result<()> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put_in_place(&new, path).map_err(|(_, error)| error)
    };
    written().map_err(|error| AgentError::state(path, error))
}

/// Which file has the name after a replacement that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Still the old one.
    Old,
    /// The new one already, and perhaps not durably.
    New,
}

/// Renames a new file over another and makes that durable. Everything that can fail for want of means is done first.
///
/// # Errors
/// What the system says, and which file has the name then.
pub fn put_in_place(new: &Path, path: &Path) -> Result<(), (Named, io::Error)> {
    // Opened before the rename: after it, a process that may open no more files could not say what it has done.
    let folder = open_folder_of(path).map_err(|error| (Named::Old, error))?;
    std::fs::rename(new, path).map_err(|error| (Named::Old, error))?;
    if let Some(folder) = folder {
        folder.sync_all().map_err(|error| (Named::New, error))?;
    }
    Ok(())
}

#[cfg(unix)]
fn open_folder_of(path: &Path) -> io::Result<Option<File>> {
    path.parent().map(File::open).transpose()
}

/// Folders are not opened here: the system writes their entries itself.
#[cfg(not(unix))]
fn open_folder_of(_path: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Writes a value as [`write_atomic`] does.
///
/// # Errors
/// [`AgentError::State`] naming the file.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), AgentError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| AgentError::state(path, error))?;
    write_atomic(path, &text)
}

/// Reads a value; `None` when there is no such file. `advice` is what to do when the file is damaged: a file system that
/// has lost its last writes leaves half a file, or an empty one.
///
/// # Errors
/// [`AgentError::State`] when it cannot be read; with what is wrong with it and the advice when it is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path, advice: &str) -> Result<Option<T>, AgentError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AgentError::state(path, error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let damage = if error.is_eof() {
            "ends in the middle"
        } else {
            "is not what the agent writes there"
        };
        AgentError::state(path, format!("the file {damage} ({error}); {advice}"))
    })
}

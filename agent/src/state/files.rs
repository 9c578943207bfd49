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
        std::fs::rename(&new, path)?;
        sync_folder_of(path)
    };
    written().map_err(|error| AgentError::state(path, error))
}

/// Makes a rename or a creation in the folder of `path` durable.
///
/// # Errors
/// What the system says.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _: (&Path, Option<File>) = (path, None);
    Ok(())
}

/// Writes a value as [`write_atomic`] does.
///
/// # Errors
/// [`AgentError::State`] naming the file.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), AgentError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| AgentError::state(path, error))?;
    write_atomic(path, &text)
}

/// Reads a value; `None` when there is no such file.
///
/// # Errors
/// [`AgentError::State`] when it cannot be read or is malformed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AgentError::state(path, error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| AgentError::state(path, error))
}

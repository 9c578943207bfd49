//! Keeps each log below a bound. A child holds its log open for as long as it lives, so the file is copied to
//! `<name>.log.1` and emptied in place; children append, so they go on at its new beginning. Lines written within
//! the copy's milliseconds may be lost: these logs are for reading, not for accounting.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// A log that has grown beyond this is rotated.
pub const BOUND: u64 = 16 * 1024 * 1024;

/// Rotates the log when it is over the bound; whether it was.
pub fn rotate(log: &Path, bound: u64) -> std::io::Result<bool> {
    if !fs::metadata(log).is_ok_and(|about| about.len() > bound) {
        return Ok(false);
    }
    fs::copy(log, previous(log))?;
    OpenOptions::new().write(true).open(log)?.set_len(0)?;
    Ok(true)
}

/// Rotates every log in a folder that is over the bound.
pub fn rotate_all(logs: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(logs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            rotate(&path, BOUND)?;
        }
    }
    Ok(())
}

/// Where the rotated part goes.
pub fn previous(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

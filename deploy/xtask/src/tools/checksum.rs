//! SHA-256 of a file, by coreutils: the launcher needs it once, which is not worth a dependency.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};

/// Refuses a file whose SHA-256 is not this one.
pub fn verify(file: &Path, expected: &str) -> Result<()> {
    let output = Command::new("sha256sum")
        .arg("--")
        .arg(file)
        .output()
        .map_err(|source| Error::io("cannot run sha256sum on", file, source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A name with special characters makes sha256sum begin the line with a backslash.
    let actual = text
        .trim_start_matches('\\')
        .split_whitespace()
        .next()
        .unwrap_or_default();
    if output.status.success() && actual == expected {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} is not what it should be: its SHA-256 is {actual}, expected {expected}. It will not be used",
        file.display()
    )))
}

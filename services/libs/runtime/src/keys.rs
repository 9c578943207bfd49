//! Key files, readable by the service alone: seeds, one line each, and lists of public keys.

use std::io::ErrorKind;
use std::path::Path;

use crate::config::ConfigError;

/// The seed in `<folder>/<name>`.
///
/// # Errors
/// [`ConfigError`] naming `DASHFLEET_KEYS` and the file, when it cannot be read or is empty.
pub fn read_seed(folder: &Path, name: &str) -> Result<String, ConfigError> {
    let path = folder.join(name);
    let wrong = |reason: String| ConfigError {
        variable: "DASHFLEET_KEYS".into(),
        reason,
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    let seed = text.trim();
    if seed.is_empty() {
        return Err(wrong(format!("{} is empty", path.display())));
    }
    Ok(seed.to_owned())
}

/// The lines of `<folder>/<name>`, without empty ones; none when there is no such file.
///
/// # Errors
/// [`ConfigError`] naming `DASHFLEET_KEYS` and the file, when it is there and cannot be read.
pub fn read_lines(folder: &Path, name: &str) -> Result<Vec<String>, ConfigError> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Ok(lines.map(ToOwned::to_owned).collect())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ConfigError {
            variable: "DASHFLEET_KEYS".into(),
            reason: format!("{}: {error}", path.display()),
        }),
    }
}

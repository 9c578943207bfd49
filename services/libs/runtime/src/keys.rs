//! Seed files: one line each, readable by the service alone.

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

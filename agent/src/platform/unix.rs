//! What Linux and macOS do alike.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user that the agent runs as.
#[allow(unsafe_code)]
pub(super) fn effective_user() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether a file says what the owner of the machine wants: for an agent that runs as root, only root can have
/// written it.
///
/// # Errors
/// Who else could have.
pub fn check_trusted(file: &File) -> Result<(), String> {
    if effective_user() != 0 {
        return Ok(());
    }
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if meta.uid() != 0 {
        return Err(format!(
            "belongs to user {}; it must belong to root",
            meta.uid()
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "can be written by its group or by everybody (mode {:o}); make it 0644",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Makes a folder that nobody else can look into.
///
/// # Errors
/// Why it cannot be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let mut permissions = std::fs::metadata(path)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o700);
        std::fs::set_permissions(path, permissions)?;
    }
    Ok(())
}

/// Becomes a new process of the same program. Returns only when it could not.
pub fn restart_in_place(program: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    Command::new(program).args(arguments).exec()
}

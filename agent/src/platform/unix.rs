//! What Linux and macOS do alike.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Space;

/// The user that the agent runs as.
#[allow(unsafe_code)]
pub(super) fn effective_user() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether an open file says what the owner of the machine wants: only root and the agent's own user can have written
/// it, or put another into its folder; for an agent that runs as root that is root alone. `path` is where it was opened.
///
/// # Errors
/// Who else could have.
pub fn check_trusted(file: &File, path: &Path) -> Result<(), String> {
    let meta = file.metadata().map_err(|error| error.to_string())?;
    check_owner(&meta, "it", "0644")?;
    // A link may lead elsewhere: the folder that counts is the one where the file is.
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    let Some(folder) = real.parent() else {
        return Ok(());
    };
    let meta = std::fs::metadata(folder)
        .map_err(|error| format!("its folder {}: {error}", folder.display()))?;
    // Where the sticky bit is set, nobody replaces another's file.
    if meta.mode() & 0o1000 != 0 && meta.uid() == 0 {
        return Ok(());
    }
    check_owner(&meta, &format!("its folder {}", folder.display()), "0755")
}

/// Whether nobody but its owner may read or write an open file.
///
/// # Errors
/// Who else may.
pub fn check_private(file: &File) -> Result<(), String> {
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!(
        "others than its owner may use the file (mode {:o})",
        mode & 0o7777
    ))
}

fn check_owner(meta: &Metadata, what: &str, mode: &str) -> Result<(), String> {
    if meta.uid() != 0 && meta.uid() != effective_user() {
        return Err(format!(
            "{what} belongs to user {}; it must belong to root or to the agent's user",
            meta.uid()
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "{what} can be written by its group or by everybody (mode {:o}); make it {mode}",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// The space of the file system that is mounted here, as `df` shows it; `None` where it cannot be asked.
#[must_use]
#[allow(unsafe_code)]
// The fields' types differ between systems.
#[allow(clippy::unnecessary_cast)]
pub fn space(mount: &Path) -> Option<Space> {
    let path = std::ffi::CString::new(mount.as_os_str().as_bytes()).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a null byte, and the answer has room for what is written into it.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the answer.
    let answer = unsafe { answer.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize as u64);
    Some(Space {
        total: bytes(answer.f_blocks as u64),
        used: bytes((answer.f_blocks as u64).saturating_sub(answer.f_bfree as u64)),
        available: bytes(answer.f_bavail as u64),
    })
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

/// The most entries of `utmp` that are looked at.
const LOGINS_MAX: usize = 1_024;

/// Who is logged in, as `utmp` says. Only one thread may ask at a time: the system keeps the place in the file.
#[allow(unsafe_code)]
#[cfg(any(target_env = "gnu", target_os = "macos"))]
pub(super) fn users() -> Vec<String> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock();
    let mut users = Vec::new();
    // SAFETY: nobody else in this process reads `utmp`, and the lock above lets only one thread do so.
    unsafe { libc::setutxent() };
    for _ in 0..LOGINS_MAX {
        // SAFETY: as above.
        let entry = unsafe { libc::getutxent() };
        // SAFETY: it is null at the end, else it points to an entry that stays until the next call.
        let Some(entry) = (unsafe { entry.as_ref() }) else {
            break;
        };
        if entry.ut_type == libc::USER_PROCESS {
            // The letters' type is signed on some processors and not on others.
            #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
            let bytes = entry.ut_user.iter().map(|byte| *byte as u8);
            let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
            users.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    // SAFETY: as above.
    unsafe { libc::endutxent() };
    users
}

/// Who is logged in: this system's library keeps no `utmp`.
#[cfg(not(any(target_env = "gnu", target_os = "macos")))]
pub(super) fn users() -> Vec<String> {
    Vec::new()
}

/// Who may read the state folder and what is in it.
pub(super) fn permissions(folder: &Path) -> Vec<(bool, String, String)> {
    let looked = |path: &Path| -> (bool, String, String) {
        let shown = path.display();
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (
                    false,
                    format!("{shown} is not there."),
                    "Enrol this machine.".into(),
                );
            }
            Err(error) => {
                let advice = "Run this as root or as the agent's user.".into();
                return (
                    false,
                    format!("{shown} cannot be looked at: {error}."),
                    advice,
                );
            }
        };
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o7777;
            let advice = if meta.is_dir() {
                format!("Run `chmod go= {shown}`.")
            } else {
                format!("Do what `run` asks for: {}.", super::private_advice(path))
            };
            return (
                false,
                format!("Others than its owner may use {shown} (mode {mode:o})."),
                advice,
            );
        }
        (
            true,
            format!("Only user {} may use {shown}.", meta.uid()),
            String::new(),
        )
    };
    let mut found = vec![looked(folder), looked(&folder.join("seed.nk"))];
    for file in crate::state::TRUSTED {
        let path = folder.join(file);
        let Ok(meta) = std::fs::metadata(&path) else {
            // Whether it has to be there, others look.
            continue;
        };
        // By its mode alone: whoever asks need not be the user that the agent runs as.
        if meta.mode() & 0o022 != 0 {
            let (shown, mode) = (path.display(), meta.mode() & 0o7777);
            found.push((
                false,
                format!("{shown} can be written by others than its owner (mode {mode:o}), and is not used."),
                format!("Do what `run` asks for: {}.", super::trusted_advice(folder)),
            ));
        }
    }
    found
}

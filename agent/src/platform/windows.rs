//! Windows: `msg`, `reg`, `shutdown`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::helper;
use super::{Notice, Shown, ShownOn, Space, boot_id_of};
use contract::agent::{BatterySample, TemperatureSample};

use crate::policy::Policy;

/// Where Windows keeps its own programs.
const SYSTEM_PATH: &str = r"C:\Windows\System32";

pub(super) fn boot_time() -> Duration {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (start, uptime) =
        START.get_or_init(|| (Instant::now(), sysinfo::System::uptime().unwrap_or(0)));
    Duration::from_secs(*uptime) + start.elapsed()
}

#[allow(clippy::unused_async)] // other systems ask a program
pub(super) async fn boot_id() -> String {
    sysinfo::System::boot_time()
        .map(boot_id_of)
        .unwrap_or_default()
}

pub(super) async fn machine_id() -> Result<(String, String), String> {
    let key = r"HKLM\SOFTWARE\Microsoft\Cryptography";
    let mut reg = helper::command("reg.exe", SYSTEM_PATH);
    reg.args(["query", key, "/v", "MachineGuid"]);
    let text = helper::run(reg, None).await?;
    let id = text
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned();
    Ok((id, format!(r"{key}\MachineGuid")))
}

pub(super) fn hardware_id() -> Option<String> {
    None
}

pub(super) fn process_count() -> Option<u32> {
    None
}

pub(super) async fn show(notice: &Notice, policy: &Policy) -> Shown {
    if policy.restricts_users() {
        return Shown::NOBODY;
    }
    let mut msg = helper::command("msg.exe", SYSTEM_PATH);
    // The text goes in by standard input, never on the command line.
    msg.args(["*", "/TIME:60"]);
    let text = format!("{}\r\n\r\n{}", notice.title, notice.text);
    match helper::run(msg, Some(&text)).await {
        Ok(_) => Shown {
            on: ShownOn::Desktop,
            sessions: 1,
        },
        Err(error) => {
            tracing::warn!(error, "the notice could not be shown");
            Shown::NOBODY
        }
    }
}

pub(super) async fn reboot() -> Result<(), String> {
    let mut shutdown = helper::command("shutdown.exe", SYSTEM_PATH);
    shutdown.args(["/r", "/t", "0"]);
    helper::run(shutdown, None).await.map(|_| ())
}

/// Whether a file says what the owner of the machine wants. The folder's access list decides that on Windows.
///
/// # Errors
/// Never.
pub fn check_trusted(_file: &File, _path: &Path) -> Result<(), String> {
    Ok(())
}

/// Nothing is kept back on Windows: what sysinfo says of a file system's space is right already.
#[must_use]
pub fn space(_mount: &Path) -> Option<Space> {
    None
}

/// Makes a folder. Its access list comes from the folder above it.
///
/// # Errors
/// Why it cannot be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Starts the same program anew and ends this process. Returns only when it could not.
#[allow(clippy::disallowed_methods)] // everything is drained already: this stands for `exec`
pub fn restart_in_place(program: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    match std::process::Command::new(program).args(arguments).spawn() {
        Ok(_) => std::process::exit(0),
        Err(error) => error,
    }
}

pub(super) use super::portable::{hardware, memory_begin, memory_give_back, processes, traffic};

/// Temperatures need a driver or a private interface here.
#[allow(clippy::unnecessary_wraps)] // as on other systems
pub(super) fn temperatures() -> Result<Vec<TemperatureSample>, String> {
    Ok(Vec::new())
}

/// Batteries are not looked at here yet.
#[allow(clippy::unnecessary_wraps)] // as on other systems
pub(super) fn batteries() -> Result<Vec<BatterySample>, String> {
    Ok(Vec::new())
}

pub(super) fn packages() -> Option<u32> {
    None
}

pub(super) fn users() -> Vec<String> {
    Vec::new()
}

/// Who may use the state folder is in its access list, which comes from the folder above it.
pub(super) fn permissions(_folder: &Path) -> Vec<(bool, String, String)> {
    Vec::new()
}

pub(super) fn service_files() -> Vec<std::path::PathBuf> {
    Vec::new()
}

pub(super) async fn service_stop() -> Result<(), String> {
    let mut stop = helper::command("sc.exe", SYSTEM_PATH);
    stop.args(["stop", "DashFleetAgent"]);
    if let Err(reason) = helper::run(stop, None).await {
        tracing::debug!(reason, "the service was not running");
    }
    Ok(())
}

#[allow(clippy::unused_async)] // other systems ask a program
pub(super) async fn service_forget() -> Result<(), String> {
    let mut delete = helper::command("sc.exe", SYSTEM_PATH);
    delete.args(["delete", "DashFleetAgent"]);
    helper::run(delete, None).await.map(|_| ())
}

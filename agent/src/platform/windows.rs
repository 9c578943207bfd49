//! Windows: `msg`, `reg`, `shutdown`, `icacls`, and PowerShell for access lists.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::access_list;
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

/// What PowerShell is asked: who asks, and the access lists of a file and of its folder.
const ACCESS: &str = "$ErrorActionPreference = 'Stop'; \
    [Security.Principal.WindowsIdentity]::GetCurrent().User.Value; \
    (Get-Acl -LiteralPath $env:DASHFLEET_PATH).Sddl; \
    (Get-Acl -LiteralPath (Split-Path -Parent $env:DASHFLEET_PATH)).Sddl";

/// The agent's user, and the access lists of a file or folder and of the folder above it.
fn access(path: &Path) -> Result<[String; 3], String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut shell = std::process::Command::new(format!(
        r"{SYSTEM_PATH}\WindowsPowerShell\v1.0\powershell.exe"
    ));
    // The path goes in by the environment: nothing in it can be a command.
    shell
        .args(["-NoProfile", "-NonInteractive", "-Command", ACCESS])
        .env_clear()
        .env("SystemRoot", r"C:\Windows")
        .env("PATH", SYSTEM_PATH)
        .env("DASHFLEET_PATH", &path)
        .stdin(std::process::Stdio::null());
    let text = finished(shell)?;
    let mut lines = text.lines().map(|line| line.trim().to_owned());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(user), Some(own), Some(above)) => Ok([user, own, above]),
        _ => Err(format!("the access list of {} is not told", path.display())),
    }
}

/// Runs a program of the system to its end; what it printed.
fn finished(mut command: std::process::Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{name} failed ({}): {}",
        output.status,
        said.trim()
    ))
}

/// Whether a file says what the owner of the machine wants: only the system, administrators and the agent's own user can
/// have written it, or put another into its folder.
///
/// # Errors
/// Who else could have.
pub fn check_trusted(_file: &File, path: &Path) -> Result<(), String> {
    let [user, own, above] = access(path)?;
    access_list::check(&own, &user, "it")?;
    access_list::check(&above, &user, "its folder")
}

/// Whether nobody but its owner may use an open file: it is in the state folder, whose access list is looked at.
#[allow(clippy::unnecessary_wraps)] // as on other systems
pub fn check_private(_file: &File) -> Result<(), String> {
    Ok(())
}

/// Nothing is kept back on Windows: what sysinfo says of a file system's space is right already.
#[must_use]
pub fn space(_mount: &Path) -> Option<Space> {
    None
}

/// Makes a folder that only the system, administrators and its owner can look into. One that is there already must be
/// in their hands: anybody can make folders where it usually is, and put a key or an enrolment into it.
///
/// # Errors
/// Why it cannot be made, or who else could write into it.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let made = !path.exists();
    std::fs::create_dir_all(path)?;
    if made {
        let mut icacls = std::process::Command::new(format!(r"{SYSTEM_PATH}\icacls.exe"));
        icacls.arg(path).args([
            "/inheritance:r",
            "/grant:r",
            "*S-1-5-18:(OI)(CI)F",
            "*S-1-5-32-544:(OI)(CI)F",
            // The owner's own rights, whoever that is.
            "*S-1-3-4:(OI)(CI)F",
        ]);
        finished(icacls).map_err(io::Error::other)?;
    }
    access(path)
        .and_then(|[user, own, _]| access_list::check(&own, &user, "it"))
        .map_err(io::Error::other)
}

/// Starts the same program anew and ends this process. Returns only when it could not.
#[allow(clippy::disallowed_methods)] // everything is drained already: this stands for `exec`
pub fn restart_in_place(program: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    match std::process::Command::new(program).args(arguments).spawn() {
        Ok(_) => std::process::exit(0),
        Err(error) => error,
    }
}

pub(super) use super::portable::{
    hardware, memory_begin, memory_give_back, mounts, processes, traffic,
};

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

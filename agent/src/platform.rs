//! What differs between operating systems. Linux is the one that runs in production; the others keep to the same
//! signatures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::agent::{BatterySample, Bios, InventoryDisk, TemperatureSample};

use crate::policy::Policy;

pub mod access_list;
pub mod arguments;
pub mod helper;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(any(target_os = "macos", test))]
#[cfg_attr(not(target_os = "macos"), allow(dead_code, unused_imports))]
mod macos;
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", allow(dead_code))]
mod portable;
#[cfg(unix)]
mod unix;
#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, unused_imports))]
mod windows;

#[cfg(target_os = "linux")]
use linux as os;
#[cfg(target_os = "macos")]
use macos as os;
#[cfg(windows)]
use windows as os;

#[cfg(unix)]
pub use unix::{check_private, check_trusted, private_folder, restart_in_place, space};
#[cfg(windows)]
pub use windows::{check_private, check_trusted, private_folder, restart_in_place, space};

/// Where the agent's files are, when nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The state folder.
    pub state: &'static str,
    /// The policy.
    pub policy: &'static str,
    /// The configuration.
    pub config: &'static str,
    /// The program, where the install script puts it.
    pub program: &'static str,
}

/// On systems with `/etc`.
pub const UNIX_PLACES: Places = Places {
    state: "/var/lib/dashfleet-agent",
    policy: "/etc/dashfleet/policy.json",
    config: "/etc/dashfleet/agent.json",
    program: "/usr/local/bin/dashfleet-agent",
};
/// On Windows: below the one folder that the install script gives to administrators alone. (`/etc` would be `C:\etc`,
/// which any user can make.)
pub const WINDOWS_PLACES: Places = Places {
    state: r"C:\ProgramData\DashFleet\agent",
    policy: r"C:\ProgramData\DashFleet\policy.json",
    config: r"C:\ProgramData\DashFleet\agent.json",
    program: r"C:\ProgramData\DashFleet\dashfleet-agent.exe",
};
/// On this system.
pub const PLACES: Places = if cfg!(windows) {
    WINDOWS_PLACES
} else {
    UNIX_PLACES
};

/// The space of a file system, in bytes. What is kept back for root is neither used nor available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What files take.
    pub used: u64,
    /// What an ordinary user may still take.
    pub available: u64,
}

/// A mounted file system, as the system lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted, such as `/dev/sda1` or `server:/export`.
    pub device: String,
    /// Where.
    pub path: PathBuf,
    /// Its kind, such as `ext4` or `fuse.sshfs`.
    pub file_system: String,
    /// Whether somebody else serves it, another machine or another process, or the way to it leads through such a one:
    /// then whoever asks it waits for that one, perhaps for ever.
    pub is_served: bool,
    /// Its space, where the system tells it with the list.
    pub space: Option<Space>,
    /// Bytes read from and written to its device since boot, where that is counted.
    pub traffic: Option<(u64, u64)>,
}

/// What passed through a network interface since it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The interface.
    pub name: String,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Damaged packets received.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets received and dropped; `None` where the system does not count them.
    pub receive_drops: Option<u64>,
    /// Packets dropped instead of sent.
    pub send_drops: Option<u64>,
}

/// What the hardware is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Disks.
    pub disks: Vec<InventoryDisk>,
    /// What the firmware says.
    pub bios: Option<Bios>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as it was when it began or as it calls itself.
    pub name: String,
    /// When it began, in a unit of the system's.
    pub started: u64,
    /// The processor time that it has used.
    pub cpu: Duration,
    /// The memory that it holds, in bytes.
    pub memory: u64,
}

/// A text to be shown to whoever uses the machine, already free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The line above the text.
    pub title: String,
    /// The text.
    pub text: String,
}

/// Where a notice was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownOn {
    /// In graphical sessions.
    Desktop,
    /// On terminals.
    Terminal,
    /// Nobody could see it.
    None,
}

impl ShownOn {
    /// The name as it is reported: `DESKTOP`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "DESKTOP",
            Self::Terminal => "TERMINAL",
            Self::None => "NONE",
        }
    }
}

/// Where a notice was seen, and by how many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where.
    pub on: ShownOn,
    /// In how many sessions.
    pub sessions: usize,
}

impl Shown {
    /// Nobody could see it.
    pub const NOBODY: Self = Self {
        on: ShownOn::None,
        sessions: 0,
    };
}

/// Keeps the allocator from holding a heap of its own for each thread: the agent allocates little, from few threads.
/// To be called before there are others.
pub fn memory_begin() {
    os::memory_begin();
}

/// Gives what the allocator holds in reserve back to the system. A burst of actions or a journal written anew takes
/// memory for a moment; without this it stays the agent's for good.
pub fn memory_give_back() {
    os::memory_give_back();
}

/// Time since boot, suspension included.
#[must_use]
pub fn boot_time() -> Duration {
    os::boot_time()
}

/// A text that is another one after each boot; empty when the system does not say.
pub async fn boot_id() -> String {
    os::boot_id().await
}

/// How far the computed times of one boot may lie apart: the clock that they are computed with is set now and then. A
/// machine that has booted takes longer than this until it has booted again.
const BOOT_TOLERANCE_SECONDS: u64 = 30;

/// Where a system has no name for a boot, the id says when it was, in seconds of the machine's clock.
#[must_use]
pub fn boot_id_of(seconds: u64) -> String {
    format!("boot-{seconds}")
}

/// Whether two boot ids are of the same boot. Nobody's is the same as an empty one.
#[must_use]
pub fn is_same_boot(one: &str, other: &str) -> bool {
    // What is no such time is a name, and compared as one.
    let seconds = |id: &str| id.strip_prefix("boot-")?.parse::<u64>().ok();
    match (seconds(one), seconds(other)) {
        (Some(one), Some(other)) => one.abs_diff(other) <= BOOT_TOLERANCE_SECONDS,
        _ => one == other && !one.is_empty(),
    }
}

/// The identity of this installation of the operating system.
///
/// # Errors
/// Why it cannot be read.
pub async fn machine_id(file: Option<&Path>) -> Result<String, String> {
    let (id, source) = match file {
        Some(path) => (
            std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?,
            path.display().to_string(),
        ),
        None => os::machine_id().await?,
    };
    let id = id.trim().to_owned();
    if id.is_empty() {
        Err(format!("{source} is empty"))
    } else {
        Ok(id)
    }
}

/// The identity that the hardware (or the virtual machine) has; `None` where it cannot be read.
#[must_use]
pub fn hardware_id() -> Option<String> {
    os::hardware_id()
}

/// How many processes there are; `None` where counting is dear.
#[must_use]
pub fn process_count() -> Option<u32> {
    os::process_count()
}

/// What passed through the network interfaces.
///
/// # Errors
/// Why it cannot be read.
pub fn traffic() -> Result<Vec<Traffic>, String> {
    os::traffic()
}

/// The mounted file systems: those that somebody else serves ([`Mount::is_served`]), or the others. Of those that are
/// `served` none is asked anything here.
///
/// # Errors
/// Why they cannot be listed.
pub fn mounts(served: bool) -> Result<Vec<Mount>, String> {
    os::mounts(served)
}

/// All processes.
///
/// # Errors
/// Why they cannot be listed.
pub fn processes() -> Result<Vec<Process>, String> {
    os::processes()
}

/// Temperatures that the machine tells; none where it tells none.
///
/// # Errors
/// Why what is there cannot be read.
pub fn temperatures() -> Result<Vec<TemperatureSample>, String> {
    os::temperatures()
}

/// The batteries that the machine runs on; none where it has none.
///
/// # Errors
/// Why what is there cannot be read.
pub fn batteries() -> Result<Vec<BatterySample>, String> {
    os::batteries()
}

/// What the hardware is, as far as it can be read; see [`Hardware`].
#[must_use]
pub fn hardware() -> Hardware {
    os::hardware()
}

/// How many packages are installed; `None` where no database of packages can be read.
#[must_use]
pub fn packages() -> Option<u32> {
    os::packages()
}

/// When the databases of packages last changed; `None` where that cannot be told.
#[must_use]
pub fn packages_changed() -> Option<std::time::SystemTime> {
    const DATABASES: [&str; 5] = [
        "/var/lib/dpkg/status",
        "/lib/apk/db/installed",
        "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        "/var/lib/rpm/rpmdb.sqlite",
        "/var/lib/pacman/local",
    ];
    DATABASES
        .into_iter()
        .filter_map(|path| std::fs::metadata(path).ok()?.modified().ok())
        .max()
}

/// Who is logged in, by name; a name may come several times.
#[must_use]
pub fn users() -> Vec<String> {
    os::users()
}

/// Shows a notice to whoever uses the machine.
pub async fn show(notice: &Notice, policy: &Policy) -> Shown {
    os::show(notice, policy).await
}

/// What to do about a key that others could use.
#[must_use]
pub fn private_advice(path: &Path) -> String {
    format!(
        "run `chmod 600 {}`, and if others have used this machine meanwhile, revoke it on the server and enrol it anew with \
         an empty state folder",
        path.display()
    )
}

/// What to do about a state folder that others could have written.
#[must_use]
pub fn trusted_advice(folder: &Path) -> String {
    format!(
        "whoever could write there could say whom this machine obeys: if others have used this machine meanwhile, enrol it \
         anew with an empty state folder; else run `chmod -R go= {}`",
        folder.display()
    )
}

/// Who may read the state folder and what is in it: for each look whether it is well, what was found, and what to do.
#[must_use]
pub fn permissions(folder: &Path) -> Vec<(bool, String, String)> {
    os::permissions(folder)
}

/// The files that make the agent a service, whether they are there or not.
#[must_use]
pub fn service_files() -> Vec<std::path::PathBuf> {
    os::service_files()
}

/// Ends the service, and keeps it from beginning again. Nothing where there is no service.
///
/// # Errors
/// Why it could not be ended.
pub async fn service_stop() -> Result<(), String> {
    os::service_stop().await
}

/// Tells the service manager that the files are gone.
///
/// # Errors
/// What it says.
pub async fn service_forget() -> Result<(), String> {
    os::service_forget().await
}

/// Restarts the machine now.
///
/// # Errors
/// Why it could not be asked for.
pub async fn reboot() -> Result<(), String> {
    os::reboot().await
}

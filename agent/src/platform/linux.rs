//! Linux: systemd's sessions, the kernel's boot id, `notify-send` and `wall`.
//!
//! Rooms: [`procfs`] interfaces and processes, [`mounts`] file systems, [`sensors`] temperatures and batteries, [`hardware`]
//! and [`packages`] for the inventory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use contract::agent::{BatterySample, TemperatureSample};
use tokio::process::Command;

use super::helper::{self, HELPER_PATH};
use super::{Notice, Shown, ShownOn, arguments};
use crate::policy::Policy;

mod service;

pub mod hardware;
pub mod mounts;
pub mod packages;
pub mod procfs;
pub mod sensors;

pub(super) use super::unix::permissions;
pub(super) use procfs::{processes, traffic};
pub(super) use service::{service_files, service_forget, service_stop};

/// How long a program that asks for a reboot may take: an overloaded machine is what is rebooted most.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(30);
/// The most sessions that are looked at.
const SESSIONS_MAX: usize = 64;

/// The most heaps of glibc's allocator.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn memory_begin() {
    // SAFETY: mallopt takes two numbers and touches no memory of ours.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn memory_give_back() {
    // SAFETY: malloc_trim may be called at any time, from any thread; it frees nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries hold little back, and have no such calls.
#[cfg(not(target_env = "gnu"))]
pub(super) fn memory_begin() {}

#[cfg(not(target_env = "gnu"))]
pub(super) fn memory_give_back() {}

#[allow(unsafe_code)]
pub(super) fn boot_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[allow(clippy::unused_async)] // other systems ask a program
pub(super) async fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

pub(super) async fn machine_id() -> Result<(String, String), String> {
    let path = "/etc/machine-id";
    let id = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok((id, path.to_owned()))
}

pub(super) fn hardware_id() -> Option<String> {
    let id = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    let id = id.trim().to_lowercase();
    // Some boards say nothing, or all zeros or ones: that identifies nobody.
    let meaningful = id
        .chars()
        .filter(|c| *c != '-')
        .any(|c| c != '0' && c != 'f');
    meaningful.then_some(id)
}

pub(super) fn process_count() -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let numeric = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
        })
    };
    u32::try_from(entries.map(numeric).filter(|is| *is).count()).ok()
}

pub(super) fn mounts(served: bool) -> Result<Vec<super::Mount>, String> {
    mounts::list(served)
}

pub(super) fn temperatures() -> Result<Vec<TemperatureSample>, String> {
    sensors::temperatures(Path::new("/sys/class"))
}

pub(super) fn batteries() -> Result<Vec<BatterySample>, String> {
    sensors::batteries(Path::new("/sys/class"))
}

pub(super) fn hardware() -> super::Hardware {
    hardware::hardware(Path::new("/sys"))
}

pub(super) fn packages() -> Option<u32> {
    packages::count(Path::new("/"))
}

/// Who is logged in, as systemd-logind keeps it, and as `utmp` does where it is still written.
pub(super) fn users() -> Vec<String> {
    let mut users = super::unix::users();
    for session in sensors::entries(Path::new("/run/systemd/sessions"), "") {
        let Ok(text) = std::fs::read_to_string(&session) else {
            continue;
        };
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        if value("CLASS") == Some("user") && value("STATE") != Some("closing") {
            users.extend(value("USER").map(ToOwned::to_owned));
        }
    }
    users
}

pub(super) async fn show(notice: &Notice, policy: &Policy) -> Shown {
    Screens::of_system().show(notice, policy).await
}

pub(super) async fn reboot() -> Result<(), String> {
    reboot_by(HELPER_PATH).await
}

/// Asks for a reboot by the programs in this search path. What is asked for is not waited for.
///
/// # Errors
/// What both programs said. The system may have taken the request all the same.
pub async fn reboot_by(path: &str) -> Result<(), String> {
    let mut systemctl = helper::command("systemctl", path);
    systemctl.args(["reboot", "--no-wall", "--no-block"]);
    let Err(first) = helper::run_within(systemctl, None, REBOOT_TIMEOUT).await else {
        return Ok(());
    };
    let mut shutdown = helper::command("shutdown", path);
    shutdown.args(["-r", "now"]);
    helper::run_within(shutdown, None, REBOOT_TIMEOUT)
        .await
        .map(|_| ())
        .map_err(|second| format!("{first}; {second}"))
}

/// A login session, as systemd-logind tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The user's number.
    pub uid: u32,
    /// The user's name.
    pub user: String,
    /// Whether it has a desktop.
    pub graphical: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Reads what `loginctl show-session` prints; `None` for sessions that nobody sits at.
#[must_use]
pub fn parse_session(text: &str) -> Option<Session> {
    let property = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or("")
    };
    if property("State") == "closing" || !matches!(property("Class"), "user" | "user-early") {
        return None;
    }
    let kind = property("Type");
    Some(Session {
        uid: property("User").parse().ok()?,
        user: property("Name").to_owned(),
        graphical: matches!(kind, "x11" | "wayland" | "mir"),
        terminal: kind == "tty",
    })
}

/// The screens of this machine, by the programs that reach them.
#[derive(Clone, Debug)]
pub struct Screens {
    path: String,
    runtime: String,
}

impl Screens {
    /// By the system's programs.
    #[must_use]
    pub fn of_system() -> Self {
        Self {
            path: HELPER_PATH.to_owned(),
            runtime: "/run/user".to_owned(),
        }
    }

    /// By the programs in this search path, with users' runtime folders in `runtime`.
    #[must_use]
    pub fn by(path: &str, runtime: &str) -> Self {
        Self {
            path: path.to_owned(),
            runtime: runtime.to_owned(),
        }
    }

    /// Shows a notice on desktops; where there are none, on terminals.
    pub async fn show(&self, notice: &Notice, policy: &Policy) -> Shown {
        let sessions = self.sessions().await;
        let mut users: Vec<&Session> = Vec::new();
        for session in sessions.iter().filter(|session| session.graphical) {
            // One bus, and so one notice, for each user.
            if policy.allows_user(&session.user)
                && !users.iter().any(|seen| seen.uid == session.uid)
            {
                users.push(session);
            }
        }
        let shown =
            futures::future::join_all(users.iter().map(|user| self.notify(user, notice))).await;
        let seen = shown.iter().filter(|seen| **seen).count();
        if seen > 0 {
            return Shown {
                on: ShownOn::Desktop,
                sessions: seen,
            };
        }
        self.wall(notice, policy, &sessions).await
    }

    async fn sessions(&self) -> Vec<Session> {
        let mut list = helper::command("loginctl", &self.path);
        list.args(["list-sessions", "--no-legend", "--no-pager"]);
        let text = match helper::run(list, None).await {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!(error, "sessions cannot be listed");
                return Vec::new();
            }
        };
        let ids = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .take(SESSIONS_MAX);
        let shown = ids.map(|id| {
            let mut show = helper::command("loginctl", &self.path);
            show.args([
                "show-session",
                id,
                "-p",
                "User",
                "-p",
                "Name",
                "-p",
                "Type",
                "-p",
                "State",
                "-p",
                "Class",
            ]);
            helper::run(show, None)
        });
        let shown = futures::future::join_all(shown).await;
        shown
            .into_iter()
            .filter_map(|text| parse_session(&text.ok()?))
            .collect()
    }

    async fn notify(&self, session: &Session, notice: &Notice) -> bool {
        let command = self.as_user(session);
        let Some(mut command) = command else {
            return false;
        };
        command.args(arguments::notify_send(notice));
        match helper::run(command, None).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(user = session.user, error, "the notice could not be shown");
                false
            }
        }
    }

    /// `notify-send` as the session's user, with that user's bus and nothing else; `None` where the agent may not
    /// become that user.
    fn as_user(&self, session: &Session) -> Option<Command> {
        let mut command = helper::command("notify-send", &self.path);
        let runtime = format!("{}/{}", self.runtime, session.uid);
        command.env("XDG_RUNTIME_DIR", &runtime).env(
            "DBUS_SESSION_BUS_ADDRESS",
            format!("unix:path={runtime}/bus"),
        );
        match super::unix::effective_user() {
            me if me == session.uid => Some(command),
            // Setting the user also clears root's supplementary groups (std does).
            0 => {
                let gid = group_of(&runtime)?;
                command.gid(gid).uid(session.uid);
                Some(command)
            }
            _ => None,
        }
    }

    async fn wall(&self, notice: &Notice, policy: &Policy, sessions: &[Session]) -> Shown {
        let mut terminals = sessions.iter().filter(|session| session.terminal).count();
        if terminals == 0 {
            let who = helper::run(helper::command("who", &self.path), None)
                .await
                .unwrap_or_default();
            terminals = who.lines().filter(|line| !line.trim().is_empty()).count();
        }
        // `wall` reaches everybody: where some users are left out it cannot be used.
        if terminals == 0 || policy.restricts_users() {
            return Shown::NOBODY;
        }
        let text = format!("{}\n\n{}\n", notice.title, notice.text);
        match helper::run(helper::command("wall", &self.path), Some(&text)).await {
            Ok(_) => Shown {
                on: ShownOn::Terminal,
                sessions: terminals,
            },
            Err(error) => {
                tracing::warn!(error, "the notice could not be shown on terminals");
                Shown::NOBODY
            }
        }
    }
}

/// The primary group of a user: their runtime folder belongs to it.
fn group_of(runtime: &str) -> Option<u32> {
    std::fs::metadata(runtime).ok().map(|meta| meta.gid())
}

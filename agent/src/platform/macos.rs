//! macOS: `osascript`, `ioreg`, `sysctl`.

use std::time::Duration;

use super::helper::{self, HELPER_PATH};
use super::{Notice, Shown, ShownOn, arguments, boot_id_of};
use contract::agent::{BatterySample, TemperatureSample};

use crate::policy::Policy;

#[allow(unsafe_code)]
pub(super) fn boot_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // On macOS this clock goes on while the machine sleeps.
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

pub(super) async fn boot_id() -> String {
    // The time of the boot moves when the clock is set; this does not.
    let mut sysctl = helper::command("sysctl", HELPER_PATH);
    sysctl.args(["-n", "kern.bootsessionuuid"]);
    match helper::run(sysctl, None).await {
        Ok(id) if !id.trim().is_empty() => id.trim().to_lowercase(),
        other => {
            tracing::warn!(
                ?other,
                "the system does not name its boot; its time is taken"
            );
            sysinfo::System::boot_time()
                .map(boot_id_of)
                .unwrap_or_default()
        }
    }
}

pub(super) async fn machine_id() -> Result<(String, String), String> {
    let mut ioreg = helper::command("ioreg", HELPER_PATH);
    ioreg.args(["-rd1", "-c", "IOPlatformExpertDevice"]);
    let text = helper::run(ioreg, None).await?;
    let id = text
        .lines()
        .find(|line| line.contains("IOPlatformUUID"))
        .and_then(|line| line.rsplit('"').nth(1))
        .unwrap_or_default();
    Ok((id.to_owned(), "ioreg's IOPlatformUUID".to_owned()))
}

pub(super) fn hardware_id() -> Option<String> {
    // The machine id is the hardware's already.
    None
}

pub(super) fn process_count() -> Option<u32> {
    None
}

pub(super) async fn show(notice: &Notice, policy: &Policy) -> Shown {
    let mut stat = helper::command("stat", HELPER_PATH);
    stat.args(["-f", "%u %Su", "/dev/console"]);
    let text = helper::run(stat, None).await.unwrap_or_default();
    let Some((uid, name)) = arguments::console_user(&text) else {
        return Shown::NOBODY;
    };
    if !policy.allows_user(&name) {
        return Shown::NOBODY;
    }
    // What the agent's own user is shown, nobody sees: it must be the session of whoever sits there.
    let script = match super::unix::effective_user() {
        me if me == uid => {
            let mut script = helper::command("osascript", HELPER_PATH);
            script.args(arguments::osascript(notice));
            script
        }
        0 => {
            let texts = arguments::osascript(notice);
            let mut script = helper::command("launchctl", HELPER_PATH);
            script.args(arguments::as_console_user(
                uid,
                &name,
                "/usr/bin/osascript",
                &texts,
            ));
            script
        }
        _ => return Shown::NOBODY,
    };
    match helper::run(script, None).await {
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
    let mut shutdown = helper::command("shutdown", HELPER_PATH);
    shutdown.args(["-r", "now"]);
    helper::run(shutdown, None).await.map(|_| ())
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
    // Each installation leaves a receipt.
    let receipts = std::fs::read_dir("/var/db/receipts").ok()?;
    let is_receipt = |name: std::ffi::OsString| name.as_encoded_bytes().ends_with(b".plist");
    u32::try_from(
        receipts
            .filter(|entry| {
                entry
                    .as_ref()
                    .is_ok_and(|entry| is_receipt(entry.file_name()))
            })
            .count(),
    )
    .ok()
}

pub(super) fn users() -> Vec<String> {
    super::unix::users()
}

pub(super) use super::unix::permissions;

pub(super) fn service_files() -> Vec<std::path::PathBuf> {
    vec!["/Library/LaunchDaemons/dev.dashfleet.agent.plist".into()]
}

pub(super) async fn service_stop() -> Result<(), String> {
    let mut launchctl = helper::command("launchctl", HELPER_PATH);
    launchctl.args(["bootout", "system/dev.dashfleet.agent"]);
    match helper::run(launchctl, None).await {
        Ok(_) => Ok(()),
        // It is no service, or none that runs.
        Err(reason) if reason.contains("No such process") => Ok(()),
        Err(reason) => Err(reason),
    }
}

#[allow(clippy::unused_async)] // other systems ask a program
pub(super) async fn service_forget() -> Result<(), String> {
    Ok(())
}

//! macOS: `osascript`, `ioreg`, `sysctl`.

use std::time::Duration;

use super::helper::{self, HELPER_PATH};
use super::{Notice, Shown, ShownOn};
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

pub(super) fn boot_id() -> String {
    sysinfo::System::boot_time()
        .map(|seconds| format!("boot-{seconds}"))
        .unwrap_or_default()
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
    if policy.restricts_users() {
        return Shown::NOBODY;
    }
    let mut script = helper::command("osascript", HELPER_PATH);
    // The texts are arguments of the script, never part of it.
    script.args([
        "-e",
        "on run argv",
        "-e",
        "display notification (item 2 of argv) with title (item 1 of argv)",
        "-e",
        "end run",
        &notice.title,
        &notice.text,
    ]);
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

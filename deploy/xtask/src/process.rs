//! Which process is meant: a pid alone may be reused, so its start time and the machine's boot go with it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::system::{self, Signal};

/// A process that no other process can be mistaken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start: u64,
    /// The boot in which it started.
    pub boot: String,
}

impl Identity {
    /// The identity of a live process; `None` when it is gone, or dead and only not reaped yet.
    pub fn of(pid: u32) -> Option<Self> {
        let start = start_of(pid)?;
        Some(Self {
            pid,
            start,
            boot: boot_id(),
        })
    }

    /// Whether exactly this process still lives.
    pub fn is_alive(&self) -> bool {
        start_of(self.pid) == Some(self.start) && boot_id() == self.boot
    }

    /// Sends a signal, only to exactly this process. False when it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        system::send(self.pid, signal, || self.is_alive())
    }

    /// Waits until the process is gone, at most `limit`; whether it is.
    pub fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// Empty where the kernel does not tell: the start time still distinguishes.
fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The start time of a live process. The name in the second field may hold anything, so fields count from the last `)`.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The live processes of this name whose working folder is exactly this one, as far as we may see them.
pub fn working_in(folder: &Path, name: &str) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter_map(Identity::of)
        .collect()
}

/// Whether the command line of a live process has this argument.
pub fn has_argument(pid: u32, argument: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0)
            .any(|part| part == argument.as_bytes())
    })
}

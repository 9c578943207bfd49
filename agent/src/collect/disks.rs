//! File systems. Asking one whose server or device is gone can hang for ever: a thread of their own asks, and what it
//! last said is what samples show.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::agent::DiskSample;
use sysinfo::DiskRefreshKind;

use crate::collect::share;
use crate::platform::{self, Space};

/// The most file systems of a sample.
const DISKS_MAX: usize = 64;
/// How long an old word is better than none.
const STALE: Duration = Duration::from_secs(60);
/// Kinds that live in memory or only show another one: they say nothing about the machine's disks.
const NOT_DISKS: &[&str] = &[
    "tmpfs",
    "ramfs",
    "devfs",
    "autofs",
    "nsfs",
    "tracefs",
    "debugfs",
    "fusectl",
    "binfmt_misc",
];
/// The thread's stack.
const STACK_BYTES: usize = 256 * 1024;

type Known = Arc<Mutex<Option<(Instant, Vec<DiskSample>)>>>;

/// The file systems as last seen.
#[derive(Debug)]
pub struct Disks {
    known: Known,
    ask: SyncSender<()>,
}

impl Disks {
    /// Begins to look. Returns after the first look, unless that takes long.
    #[must_use]
    pub fn begin() -> Self {
        let known = Known::default();
        // One look may wait while another one runs; more are not wanted.
        let (ask, asked) = sync_channel(1);
        let (first, seen) = sync_channel(1);
        let theirs = Arc::clone(&known);
        let thread = std::thread::Builder::new()
            .name("disks".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let mut disks = match sysinfo::Disks::new() {
                    Ok(disks) => disks,
                    Err(error) => {
                        tracing::warn!(%error, "file systems cannot be looked at");
                        return;
                    }
                };
                loop {
                    disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
                    let samples = samples(&disks);
                    *theirs.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((Instant::now(), samples));
                    if first.try_send(()).is_err() {
                        tracing::trace!("not the first look");
                    }
                    if asked.recv().is_err() {
                        return;
                    }
                }
            });
        match thread {
            // The thread ends with the sender; a hanging one ends with the process.
            Ok(_) => {
                if seen.recv_timeout(Duration::from_millis(500)).is_err() {
                    tracing::warn!("looking at the file systems takes long");
                }
            }
            Err(error) => tracing::warn!(%error, "file systems cannot be looked at"),
        }
        Self { known, ask }
    }

    /// Asks for another look; it comes when it comes.
    pub fn refresh(&self) {
        if self.ask.try_send(()).is_err() {
            tracing::debug!("the last look at the file systems is not done yet");
        }
    }

    /// What was last seen; nothing when that is too long ago.
    #[must_use]
    pub fn known(&self) -> Vec<DiskSample> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, samples)) if at.elapsed() < STALE => samples.clone(),
            _ => Vec::new(),
        }
    }
}

fn samples(disks: &sysinfo::Disks) -> Vec<DiskSample> {
    // One device mounted in several places is one disk, shown where its path is shortest.
    let mut by_device: BTreeMap<String, DiskSample> = BTreeMap::new();
    for disk in disks.iter() {
        let file_system = disk.file_system().to_string_lossy().into_owned();
        let space = platform::space(disk.mount_point()).unwrap_or(Space {
            total: disk.total_space(),
            used: disk.total_space().saturating_sub(disk.available_space()),
            available: disk.available_space(),
        });
        if space.total == 0 || NOT_DISKS.contains(&file_system.as_str()) {
            continue;
        }
        let mount: String = disk
            .mount_point()
            .to_string_lossy()
            .chars()
            .take(256)
            .collect();
        let device = disk.name().to_string_lossy().into_owned();
        let sample = DiskSample {
            mount,
            file_system,
            total: space.total,
            used: space.used,
            // As `df`: of what files could take.
            percent: share(space.used, space.used.saturating_add(space.available)),
        };
        match by_device.get(&device) {
            Some(seen) if seen.mount.len() <= sample.mount.len() => {}
            _ => {
                by_device.insert(device, sample);
            }
        }
    }
    let mut samples: Vec<_> = by_device.into_values().collect();
    samples.sort_by(|a, b| a.mount.cmp(&b.mount));
    samples.truncate(DISKS_MAX);
    samples
}

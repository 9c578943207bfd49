//! File systems, and what is read from and written to their devices. Asking one whose server or device is gone can hang
//! for ever: those that somebody else serves (NFS, SMB, FUSE, …) are asked by a thread of their own, so that a server that
//! is away costs nothing of what is known of this machine's own disks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contract::agent::{CollectorFault, DiskSample};

use crate::collect::watch::Watch;
use crate::collect::{per_second, share};
use crate::platform::{self, Mount};

/// The most file systems of a sample.
const DISKS_MAX: usize = 64;
/// The longest mount point, and the longest kind, in characters.
const NAME_MAX_CHARS: usize = 256;
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(5);
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

/// Bytes read and written, by device, and when that was.
type Before = Option<(Instant, BTreeMap<String, (u64, u64)>)>;

/// Begins to look at those of this machine.
#[must_use]
pub fn begin() -> Watch<Vec<DiskSample>> {
    watch("disks", false)
}

/// Begins to look at those that somebody else serves.
#[must_use]
pub fn begin_served() -> Watch<Vec<DiskSample>> {
    watch("network-disks", true)
}

fn watch(name: &'static str, served: bool) -> Watch<Vec<DiskSample>> {
    Watch::begin(name, LIMIT, move || {
        let mut before: Before = None;
        move || Ok(samples(&platform::mounts(served)?, &mut before))
    })
}

/// What a sample says of them. When they cannot be looked at, that is what they were when they last could: a full disk is
/// not empty because another one hangs. What was read and written each second is not known then.
#[must_use]
pub fn shown(watch: &Watch<Vec<DiskSample>>) -> Vec<DiskSample> {
    let mut disks = watch.last().unwrap_or_default();
    if watch.fault().is_some() {
        for disk in &mut disks {
            disk.read = None;
            disk.written = None;
        }
    }
    disks
}

/// What is wrong with them. To be asked before [`all`]: a sample without disks must name why, or the server takes it
/// that there are none. So a first look that is still under way is named as well, long before it counts as hanging.
#[must_use]
pub fn fault(watch: &Watch<Vec<DiskSample>>) -> Option<CollectorFault> {
    watch.fault_or_silence()
}

/// What a sample says of both; where there are too many, of this machine's own first. Nothing as long as those could not be
/// looked at even once: the server goes on with what it knows of them.
#[must_use]
pub fn all(own: &Watch<Vec<DiskSample>>, served: &Watch<Vec<DiskSample>>) -> Vec<DiskSample> {
    if own.last().is_none() {
        return Vec::new();
    }
    let mut disks = shown(own);
    disks.extend(shown(served));
    disks.truncate(DISKS_MAX);
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks
}

fn samples(mounts: &[Mount], before: &mut Before) -> Vec<DiskSample> {
    // One device mounted in several places is one disk, shown where its path is shortest.
    let mut by_device: BTreeMap<&str, DiskSample> = BTreeMap::new();
    let mut now = BTreeMap::new();
    let seconds = before
        .as_ref()
        .map_or(0.0, |(at, _)| at.elapsed().as_secs_f64());
    let disks = mounts
        .iter()
        .filter(|mount| !NOT_DISKS.contains(&mount.file_system.as_str()));
    for disk in disks {
        let space = platform::space(&disk.path).or(disk.space);
        let Some(space) = space.filter(|space| space.total > 0) else {
            continue;
        };
        let mut sample = DiskSample {
            mount: bounded(&disk.path.to_string_lossy()),
            file_system: bounded(&disk.file_system),
            total: space.total,
            used: space.used,
            // As `df`: of what files could take.
            percent: share(space.used, space.used.saturating_add(space.available)),
            available: Some(space.available.min(space.total)),
            read: None,
            written: None,
        };
        // Of what is no device of this machine, a share of another one, nothing is counted.
        let counted = disk
            .traffic
            .filter(|(read, written)| *read > 0 || *written > 0);
        if let Some((read, written)) = counted {
            if let Some((_, counted)) = before.as_ref()
                && let Some((read_before, written_before)) = counted.get(&disk.device)
            {
                sample.read = Some(per_second(*read_before, read, seconds));
                sample.written = Some(per_second(*written_before, written, seconds));
            }
            now.insert(disk.device.clone(), (read, written));
        }
        match by_device.get(disk.device.as_str()) {
            Some(seen) if seen.mount.len() <= sample.mount.len() => {}
            _ => {
                by_device.insert(&disk.device, sample);
            }
        }
    }
    *before = Some((Instant::now(), now));
    let mut samples: Vec<_> = by_device.into_values().collect();
    samples.sort_by(|a, b| a.mount.cmp(&b.mount));
    samples.truncate(DISKS_MAX);
    samples
}

/// As the server takes it: not too long, without control characters.
fn bounded(text: &str) -> String {
    let text = text.chars().filter(|c| !c.is_control());
    text.take(NAME_MAX_CHARS).collect()
}

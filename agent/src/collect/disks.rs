//! File systems, and what is read from and written to their devices. Asking one whose server or device is gone can hang
//! for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contract::agent::DiskSample;
use sysinfo::DiskRefreshKind;

use crate::collect::watch::Watch;
use crate::collect::{per_second, share};
use crate::platform::{self, Space};

/// The most file systems of a sample.
const DISKS_MAX: usize = 64;
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

/// Begins to look at them.
#[must_use]
pub fn begin() -> Watch<Vec<DiskSample>> {
    Watch::begin("disks", LIMIT, || {
        let mut disks = sysinfo::Disks::new().map_err(|error| error.to_string());
        let mut before: Before = None;
        move || match &mut disks {
            Ok(disks) => {
                let kind = DiskRefreshKind::nothing().with_storage().with_io_usage();
                disks.refresh_specifics(true, kind);
                Ok(samples(disks, &mut before))
            }
            Err(reason) => Err(reason.clone()),
        }
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

fn samples(disks: &sysinfo::Disks, before: &mut Before) -> Vec<DiskSample> {
    // One device mounted in several places is one disk, shown where its path is shortest.
    let mut by_device: BTreeMap<String, DiskSample> = BTreeMap::new();
    let mut now = BTreeMap::new();
    let seconds = before
        .as_ref()
        .map_or(0.0, |(at, _)| at.elapsed().as_secs_f64());
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
        let usage = disk.usage();
        let (read, written) = (usage.total_read_bytes, usage.total_written_bytes);
        let mut sample = DiskSample {
            mount,
            file_system,
            total: space.total,
            used: space.used,
            // As `df`: of what files could take.
            percent: share(space.used, space.used.saturating_add(space.available)),
            available: Some(space.available.min(space.total)),
            read: None,
            written: None,
        };
        // Of what is no device of this machine, a share of another one, nothing is counted.
        if read > 0 || written > 0 {
            if let Some((_, counted)) = before.as_ref()
                && let Some((read_before, written_before)) = counted.get(&device)
            {
                sample.read = Some(per_second(*read_before, read, seconds));
                sample.written = Some(per_second(*written_before, written, seconds));
            }
            now.insert(device.clone(), (read, written));
        }
        match by_device.get(&device) {
            Some(seen) if seen.mount.len() <= sample.mount.len() => {}
            _ => {
                by_device.insert(device, sample);
            }
        }
    }
    *before = Some((Instant::now(), now));
    let mut samples: Vec<_> = by_device.into_values().collect();
    samples.sort_by(|a, b| a.mount.cmp(&b.mount));
    samples.truncate(DISKS_MAX);
    samples
}

//! What `/proc` says of mounted file systems and of what passed through their devices. Nothing here asks a file system
//! itself: that can hang for as long as its server is away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Mount;

/// The most mounts that are looked at: a machine of containers has some thousands.
const MOUNTS_MAX: usize = 8_192;
/// In what the kernel counts bytes of devices, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;
/// Kinds that hold no files of anybody's, or only show what is elsewhere.
const PSEUDO: &[&str] = &[
    "autofs",
    "cgroup",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "proc",
    "pstore",
    "rootfs",
    "rpc_pipefs",
    "squashfs",
    "sysfs",
    "tmpfs",
];
/// Kinds that another machine serves, or the host of a virtual one.
const SERVED: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "fuse",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "orangefs",
    "panfs",
    "prl_fs",
    "pvfs2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "wekafs",
];

/// The mounted file systems: those that somebody else serves, or the others.
///
/// # Errors
/// Why they cannot be listed.
pub fn list(served: bool) -> Result<Vec<Mount>, String> {
    let mut mounts = parse(&read("/proc/self/mountinfo")?);
    mounts.retain(|mount| mount.is_served == served);
    if !served {
        // Without it nothing is known of what was read and written, and everything else all the same.
        let traffic =
            read("/proc/diskstats").map_or_else(|_| BTreeMap::new(), |text| parse_traffic(&text));
        for mount in &mut mounts {
            mount.traffic = name_of(&mount.device).and_then(|name| traffic.get(&name).copied());
        }
    }
    Ok(mounts)
}

/// A name that is no text must not cost the others theirs.
fn read(path: &str) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads the table that `/proc/self/mountinfo` shows (proc_pid_mountinfo(5)), without what is no disk.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = text
        .lines()
        .take(MOUNTS_MAX)
        .filter_map(parse_line)
        .collect();
    // The way to what is mounted below leads through it. (Where the root itself is served nothing goes on without it.)
    let ways: Vec<PathBuf> = mounts
        .iter()
        .filter(|mount| mount.is_served && mount.path != Path::new("/"))
        .map(|mount| mount.path.clone())
        .collect();
    for mount in &mut mounts {
        let leads_through = ways.iter().any(|way| mount.path.starts_with(way));
        mount.is_served = mount.is_served || leads_through;
    }
    mounts
}

fn parse_line(line: &str) -> Option<Mount> {
    // The number of fields before the dash varies. No field has a space in it: those are written as `\040`.
    let (place, what) = line.split_once(" - ")?;
    let path = PathBuf::from(unescaped(place.split(' ').nth(4)?));
    let mut what = what.split(' ');
    let file_system = unescaped(what.next()?);
    let device = unescaped(what.next()?);
    let below = |folder: &str| path.starts_with(folder);
    let hidden = below("/sys") || below("/proc") || (below("/run") && !below("/run/media"));
    if hidden || PSEUDO.contains(&file_system.as_str()) {
        return None;
    }
    Some(Mount {
        is_served: is_served(&file_system),
        device,
        path,
        file_system,
        space: None,
        traffic: None,
    })
}

/// Whether a file system of this kind is served by another machine or, as all of FUSE, by another process.
#[must_use]
pub fn is_served(file_system: &str) -> bool {
    file_system.starts_with("fuse.") || SERVED.contains(&file_system)
}

/// A field as it was before the kernel wrote spaces, tabs, line ends and backslashes of it as octal numbers.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        match after {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                behind @ ..,
            ] if *first == b'\\' => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads the table that `/proc/diskstats` shows: bytes read from and written to each device since boot.
fn parse_traffic(text: &str) -> BTreeMap<String, (u64, u64)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bytes = |index: usize| {
            let sectors = fields.get(index)?.parse::<u64>().ok()?;
            Some(sectors.saturating_mul(SECTOR_BYTES))
        };
        Some(((*fields.get(2)?).to_owned(), (bytes(5)?, bytes(9)?)))
    };
    text.lines().filter_map(line).collect()
}

/// The kernel's name of a device, such as `dm-0` of `/dev/mapper/root`; `None` for what is none of this machine's.
fn name_of(device: &str) -> Option<String> {
    let path = Path::new(device);
    if !path.starts_with("/dev") {
        return None;
    }
    let path = path.canonicalize().ok()?;
    path.strip_prefix("/dev")
        .ok()?
        .to_str()
        .map(ToOwned::to_owned)
}

//! How many packages are installed, from the package managers' own databases: running one of them would take locks,
//! time and memory.
//!
//! Room: `sqlite` as much of that format as counting needs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

mod sqlite;

/// The longest line that is looked at whole; a longer one is no line that counts.
const LINE_MAX: usize = 64 * 1024;

/// How many packages the system under `root` has, all package managers together; `None` where no database can be read. Old
/// databases of rpm (Berkeley DB) are not read.
#[must_use]
pub fn count(root: &Path) -> Option<u32> {
    let counts = [
        lines(&root.join("var/lib/dpkg/status"), |line| {
            line.strip_prefix(b"Status: ")
                .is_some_and(|words| words.ends_with(b" ok installed"))
        }),
        lines(&root.join("lib/apk/db/installed"), |line| {
            line.starts_with(b"P:")
        }),
        rpm(root),
        folders(&root.join("var/lib/pacman/local")),
    ];
    let known: Vec<u32> = counts.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.into_iter().sum())
}

fn rpm(root: &Path) -> Option<u32> {
    [
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        "var/lib/rpm/rpmdb.sqlite",
    ]
    .into_iter()
    .find_map(|path| sqlite::count(&root.join(path), "Packages"))
}

fn folders(path: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(path).ok()?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    u32::try_from(folders.count()).ok()
}

fn lines(path: &Path, counts: impl Fn(&[u8]) -> bool) -> Option<u32> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let mut count = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let buffered = reader.fill_buf().ok()?;
        if buffered.is_empty() {
            return Some(count);
        }
        // One line, however it lies in the buffers.
        loop {
            let buffered = reader.fill_buf().ok()?;
            let end = buffered.iter().position(|byte| *byte == b'\n');
            let taken = buffered
                .get(..end.unwrap_or(buffered.len()))
                .unwrap_or_default();
            if line.len() < LINE_MAX {
                line.extend_from_slice(taken);
            }
            let (used, last) = (
                end.map_or(buffered.len(), |end| end + 1),
                end.is_some() || buffered.is_empty(),
            );
            reader.consume(used);
            if last {
                break;
            }
        }
        count += u32::from(counts(&line));
    }
}

//! Ending what an earlier launcher left behind when it was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster;
use crate::error::Result;
use crate::folder::Folder;
use crate::supervisor::record::{self, Entry};
use crate::supervisor::spec::Group;
use crate::system::{self, Signal};
use crate::terminal;

/// Ends every process in the record that still is the recorded one, in the order of stopping; how many there were.
pub fn end(folder: &Folder) -> Result<usize> {
    let path = folder.record();
    let entries = match record::read(&path) {
        Ok(entries) => entries,
        Err(error) => {
            terminal::progress("orphans", &format!("{error}; going on without it"));
            Vec::new()
        }
    };
    let mut count = 0;
    for group in Group::STOP_ORDER {
        let left: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.group == group)
            .filter(|entry| entry.identity.as_ref().is_some_and(|who| who.is_alive()))
            .collect();
        count += left.len();
        for entry in &left {
            let pid = entry.identity.as_ref().map_or(0, |who| who.pid);
            let name = &entry.name;
            terminal::progress(
                "orphans",
                &format!("ending {name} (pid {pid}) of an earlier launcher"),
            );
        }
        end_group(group, &left);
    }
    record::write(&path, &[])?;
    Ok(count)
}

fn end_group(group: Group, left: &[&Entry]) {
    let kill = [(Signal::Kill, Duration::from_secs(5))];
    for (signal, limit) in group.requests().iter().chain(&kill) {
        let alive: Vec<_> = left
            .iter()
            .filter_map(|entry| entry.identity.as_ref())
            .filter(|identity| identity.is_alive())
            .collect();
        if alive.is_empty() {
            return;
        }
        for identity in &alive {
            // Each leads a group of its own, so its descendants go with it.
            if *signal == Signal::Kill && identity.is_alive() {
                system::kill_group(identity.pid);
            }
            identity.signal(*signal);
        }
        let deadline = Instant::now() + *limit;
        for identity in &alive {
            identity.wait_gone(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Waits for the processes of a dead PostgreSQL, which leave by themselves; kills them after five seconds.
pub fn settle_cluster(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    for _ in 0..400 {
        if cluster::is_settled(folder, Instant::now() >= deadline) {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

//! What sysinfo says on systems other than Linux.

use std::time::Duration;

use contract::agent::InventoryDisk;
use sysinfo::{DiskRefreshKind, Disks, Networks, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{Hardware, Mount, Process, Space, Traffic};

/// These systems' allocators give back by themselves.
pub(super) fn memory_begin() {}

pub(super) fn memory_give_back() {}

pub(super) fn traffic() -> Result<Vec<Traffic>, String> {
    let networks = Networks::new_with_refreshed_list().map_err(|error| error.to_string())?;
    Ok(networks
        .iter()
        .filter(|(name, _)| *name != "lo0")
        .map(|(name, data)| Traffic {
            name: name.to_string_lossy().into_owned(),
            received: data.total_received(),
            sent: data.total_transmitted(),
            packets_received: data.total_packets_received(),
            packets_sent: data.total_packets_transmitted(),
            receive_errors: data.total_errors_on_received(),
            send_errors: data.total_errors_on_transmitted(),
            receive_drops: None,
            send_drops: None,
        })
        .collect())
}

/// Whoever lists them here has asked all of them: there is nothing to be kept apart.
pub(super) fn mounts(served: bool) -> Result<Vec<Mount>, String> {
    if served {
        return Ok(Vec::new());
    }
    let kind = DiskRefreshKind::nothing().with_storage().with_io_usage();
    let disks =
        Disks::new_with_refreshed_list_specifics(kind).map_err(|error| error.to_string())?;
    Ok(disks
        .iter()
        .map(|disk| {
            let (total, available) = (disk.total_space(), disk.available_space());
            let usage = disk.usage();
            Mount {
                device: disk.name().to_string_lossy().into_owned(),
                path: disk.mount_point().to_owned(),
                file_system: disk.file_system().to_string_lossy().into_owned(),
                is_served: false,
                space: Some(Space {
                    total,
                    used: total.saturating_sub(available),
                    available,
                }),
                traffic: Some((usage.total_read_bytes, usage.total_written_bytes)),
            }
        })
        .collect())
}

pub(super) fn processes() -> Result<Vec<Process>, String> {
    let mut system = System::new().map_err(|error| error.to_string())?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::All,
        true,
        ProcessRefreshKind::nothing().with_cpu().with_memory(),
    );
    Ok(system
        .processes()
        .values()
        .map(|process| Process {
            pid: process.pid().as_u32(),
            name: process.name().to_string_lossy().into_owned(),
            started: process.start_time(),
            cpu: Duration::from_millis(process.accumulated_cpu_time()),
            memory: process.memory(),
        })
        .collect())
}

/// Disks as they are mounted: the devices themselves are not told.
pub(super) fn hardware() -> Hardware {
    let disks = sysinfo::Disks::new_with_refreshed_list();
    let mut disks: Vec<_> = disks
        .iter()
        .flat_map(|disks| disks.iter())
        .map(|disk| InventoryDisk {
            name: disk.name().to_string_lossy().into_owned(),
            model: String::new(),
            size: disk.total_space(),
        })
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks.dedup_by(|a, b| a.name == b.name);
    Hardware { disks, bios: None }
}

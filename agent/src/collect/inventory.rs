//! What the machine is: the basics are sent at enrolment, everything whenever it is not what the server last had.

use std::time::Duration;

use contract::agent::{Bios, Inventory, InventoryDisk, InventoryInterface};
use sha2::{Digest, Sha256};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Networks, RefreshKind, System};

use crate::collect::watch::Watch;
use crate::platform;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The longest text, in characters.
const TEXT_MAX_CHARS: usize = 100;
/// The most disks, and the most users.
const LIST_MAX: usize = 32;
/// The most interfaces: a machine of containers has hundreds that come and go.
const INTERFACES_MAX: usize = 32;
/// The most addresses of an interface.
const ADDRESSES_MAX: usize = 8;

/// Begins to look at the machine, on a thread of its own: an address or a disk can take its time.
#[must_use]
pub fn begin() -> Watch<Inventory> {
    Watch::begin("inventory", LIMIT, || {
        let mut packages = None;
        move || {
            let mut inventory = basics();
            // Counting again and again what has not changed would be most of the work.
            let changed = platform::packages_changed();
            if changed.is_none() || packages.is_none_or(|(at, _)| Some(at) != changed) {
                let counted = platform::packages();
                packages = changed.map(|at| (at, counted));
                inventory.packages = counted;
            } else if let Some((_, counted)) = packages {
                inventory.packages = counted;
            }
            details(&mut inventory);
            Ok(inventory)
        }
    })
}

/// Looks at the machine once, as far as nothing there can hang: what enrolment says.
#[must_use]
pub fn basics() -> Inventory {
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds)
        .inspect_err(|error| tracing::warn!(%error, "processors and memory cannot be looked at"))
        .ok();
    let cpus = system.as_ref().map_or(&[][..], |system| system.cpus());
    Inventory {
        os: bounded(&System::name().unwrap_or_default()),
        os_version: bounded(&System::os_version().unwrap_or_default()),
        kernel: bounded(&System::kernel_version().unwrap_or_default()),
        architecture: bounded(&System::cpu_arch()),
        cpu_model: bounded(cpus.first().map_or("", |cpu| cpu.brand())),
        cpu_cores: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        memory_total: system.as_ref().map_or(0, System::total_memory),
        agent_version: VERSION.to_owned(),
        ..Inventory::default()
    }
}

/// Adds what the machine is made of and who uses it.
fn details(inventory: &mut Inventory) {
    let hardware = platform::hardware();
    inventory.disks = hardware
        .disks
        .into_iter()
        .take(LIST_MAX)
        .map(|disk| InventoryDisk {
            name: bounded(&disk.name),
            model: bounded(&disk.model),
            size: disk.size,
        })
        .collect();
    inventory.bios = hardware.bios.map(|bios| Bios {
        vendor: bounded(&bios.vendor),
        product: bounded(&bios.product),
        serial: bounded(&bios.serial),
        version: bounded(&bios.version),
    });
    inventory.interfaces = interfaces();
    let mut users: Vec<_> = platform::users().iter().map(|user| bounded(user)).collect();
    users.sort();
    users.dedup();
    users.truncate(LIST_MAX);
    inventory.users = users;
}

fn interfaces() -> Vec<InventoryInterface> {
    let networks = Networks::new_with_refreshed_list();
    let mut interfaces: Vec<_> = networks
        .iter()
        .flat_map(|networks| networks.iter())
        .filter(|(name, _)| is_the_machines(&name.to_string_lossy()))
        .map(|(name, data)| {
            let mac = data.mac_address();
            let mut addresses: Vec<_> = data
                .ip_networks()
                .iter()
                .map(|network| format!("{}/{}", network.addr, network.prefix))
                .collect();
            addresses.sort();
            addresses.truncate(ADDRESSES_MAX);
            InventoryInterface {
                name: bounded(&name.to_string_lossy()),
                mac: if mac.is_unspecified() {
                    String::new()
                } else {
                    mac.to_string()
                },
                addresses,
            }
        })
        .collect();
    // The same ones each time, whatever the order in which the system tells them: first those with an address.
    interfaces
        .sort_by(|a, b| (a.addresses.is_empty(), &a.name).cmp(&(b.addresses.is_empty(), &b.name)));
    interfaces.truncate(INTERFACES_MAX);
    interfaces
}

/// Not the loopback, nor the ends of containers' cables, which come and go with them.
fn is_the_machines(interface: &str) -> bool {
    !matches!(interface, "lo" | "lo0") && !interface.starts_with("veth")
}

/// A text as the server takes it: not too long, without control characters.
fn bounded(text: &str) -> String {
    let text = text.trim().chars().filter(|c| !c.is_control());
    text.take(TEXT_MAX_CHARS).collect()
}

/// The machine's name.
#[must_use]
pub fn hostname() -> String {
    let name = System::host_name().unwrap_or_default();
    let name: String = name.trim().chars().take(253).collect();
    if name.is_empty() {
        "unnamed".into()
    } else {
        name
    }
}

/// What tells one inventory from another.
#[must_use]
pub fn digest(inventory: &Inventory) -> String {
    let text = serde_json::to_vec(inventory).unwrap_or_default();
    Sha256::digest(&text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

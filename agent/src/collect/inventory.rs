//! What the machine is: sent at enrolment, and whenever it is not what the server last had.

use contract::agent::Inventory;
use sha2::{Digest, Sha256};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks at the machine.
#[must_use]
pub fn inventory() -> Inventory {
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds)
        .inspect_err(|error| tracing::warn!(%error, "processors and memory cannot be looked at"))
        .ok();
    let cpus = system.as_ref().map_or(&[][..], |system| system.cpus());
    let bounded = |text: String| text.chars().take(200).collect::<String>();
    Inventory {
        os: bounded(System::name().unwrap_or_default()),
        os_version: bounded(System::os_version().unwrap_or_default()),
        kernel: bounded(System::kernel_version().unwrap_or_default()),
        architecture: System::cpu_arch(),
        cpu_model: bounded(
            cpus.first()
                .map(|cpu| cpu.brand().trim().to_owned())
                .unwrap_or_default(),
        ),
        cpu_cores: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        memory_total: system.as_ref().map_or(0, System::total_memory),
        agent_version: VERSION.to_owned(),
    }
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

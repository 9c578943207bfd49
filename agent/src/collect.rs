//! Looking at the machine: what each sample says, and what the machine is.
//!
//! Rooms: [`disks`] file systems, on a thread of their own because asking one can hang; [`inventory`] what the machine
//! is; [`sampler`] the thread that samples and keeps the buffer.

use std::time::Instant;

use contract::agent::{CpuSample, LoadSample, MemorySample, NetworkSample, Sample, SwapSample};
use domain::Timestamp;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Networks, RefreshKind, System};

pub mod disks;
pub mod inventory;
pub mod sampler;

use disks::Disks;

/// The most interfaces of a sample: those with the most traffic.
const NETWORKS_MAX: usize = 32;
/// The most cores of a sample.
const CORES_MAX: usize = 1_024;

/// Looks at the machine; remembers what rates and shares are measured against.
#[derive(Debug)]
pub struct Collector {
    system: System,
    networks: Networks,
    networks_at: Instant,
    disks: Disks,
}

impl Collector {
    /// A collector; its first sample says what happened since now.
    ///
    /// # Errors
    /// When the system cannot be looked at.
    pub fn new() -> Result<Self, String> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(kinds).map_err(|error| error.to_string())?;
        let networks = Networks::new_with_refreshed_list().map_err(|error| error.to_string())?;
        Ok(Self {
            system,
            networks,
            networks_at: Instant::now(),
            disks: Disks::begin(),
        })
    }

    /// The machine now.
    pub fn sample(&mut self, at: Timestamp) -> Sample {
        self.disks.refresh();
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        Sample {
            at,
            cpu: CpuSample {
                percent: percent(f64::from(self.system.global_cpu_usage())),
                cores: self
                    .system
                    .cpus()
                    .iter()
                    .take(CORES_MAX)
                    .map(|core| percent(f64::from(core.usage())))
                    .collect(),
            },
            load: load(),
            memory: self.memory(),
            swap: SwapSample {
                total: self.system.total_swap(),
                used: self.system.used_swap(),
            },
            networks: self.networks(),
            disks: self.disks.known(),
            uptime_seconds: crate::platform::boot_time().as_secs(),
            processes: crate::platform::process_count().unwrap_or(0),
        }
    }

    fn memory(&self) -> MemorySample {
        let total = self.system.total_memory();
        let available = self.system.available_memory().min(total);
        let used = total - available;
        MemorySample {
            total,
            used,
            available,
            percent: share(used, total),
        }
    }

    fn networks(&mut self) -> Vec<NetworkSample> {
        self.networks.refresh(true);
        let seconds = self.networks_at.elapsed().as_secs_f64().max(0.001);
        self.networks_at = Instant::now();
        #[allow(clippy::cast_precision_loss)] // bytes of a few seconds
        let rate = |bytes: u64| (bytes as f64 / seconds * 10.0).round() / 10.0;
        let mut networks: Vec<_> = self
            .networks
            .iter()
            .filter(|(name, _)| *name != "lo")
            .map(|(name, data)| NetworkSample {
                name: name.to_string_lossy().chars().take(64).collect(),
                received: rate(data.received()),
                sent: rate(data.transmitted()),
            })
            .collect();
        if networks.len() > NETWORKS_MAX {
            networks.sort_by(|a, b| (b.received + b.sent).total_cmp(&(a.received + a.sent)));
            networks.truncate(NETWORKS_MAX);
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        networks
    }
}

fn load() -> Option<LoadSample> {
    let load = System::load_average().ok()?;
    let sane = |value: f64| value.is_finite() && value >= 0.0;
    (sane(load.one) && sane(load.five) && sane(load.fifteen)).then_some(LoadSample {
        one: load.one,
        five: load.five,
        fifteen: load.fifteen,
    })
}

/// A percentage with one decimal, from 0 to 100 whatever was measured.
#[must_use]
pub fn percent(value: f64) -> f64 {
    if value.is_finite() {
        (value.clamp(0.0, 100.0) * 10.0).round() / 10.0
    } else {
        0.0
    }
}

/// How much of the whole a part is, in percent.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // a percentage with one decimal
    if whole == 0 {
        0.0
    } else {
        percent(part as f64 * 100.0 / whole as f64)
    }
}

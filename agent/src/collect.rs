//! Looking at the machine: what each sample says, and what the machine is.
//!
//! Rooms: [`watch`] a collector on a thread of its own, because looking can hang; [`disks`] file systems, [`networks`]
//! interfaces, [`processes`] who uses the most; [`inventory`] what the machine is; [`sampler`] the thread that samples
//! and keeps the buffer.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::agent::{
    BatterySample, CollectorFault, CpuSample, DiskSample, LoadSample, MemorySample, NetworkSample,
    Sample, SwapSample, TemperatureSample, TopProcesses,
};
use domain::Timestamp;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

pub mod disks;
pub mod inventory;
pub mod networks;
pub mod processes;
pub mod sampler;
pub mod watch;

use watch::Watch;

/// The most cores of a sample.
const CORES_MAX: usize = 1_024;
/// The most temperatures, and the most batteries, of a sample.
const SENSORS_MAX: usize = 64;
/// How long reading the temperatures, or the batteries, may take: some sensors sit on slow buses.
const SENSORS_LIMIT: Duration = Duration::from_secs(3);

/// What a collector may look at besides what it always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    /// The processes that use the most.
    pub processes: bool,
}

/// Looks at the machine; remembers what rates and shares are measured against.
#[derive(Debug)]
pub struct Collector {
    system: System,
    disks: Watch<Vec<DiskSample>>,
    served_disks: Watch<Vec<DiskSample>>,
    networks: Watch<Vec<NetworkSample>>,
    temperatures: Watch<Vec<TemperatureSample>>,
    batteries: Watch<Vec<BatterySample>>,
    processes: Option<Watch<TopProcesses>>,
    /// What was wrong at the last sample: said in the log once.
    wrong: BTreeMap<String, String>,
}

impl Collector {
    /// A collector; its first sample says what happened since now.
    ///
    /// # Errors
    /// When the system cannot be looked at.
    pub fn new(optional: Optional) -> Result<Self, String> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(kinds).map_err(|error| error.to_string())?;
        Ok(Self {
            system,
            disks: disks::begin(),
            served_disks: disks::begin_served(),
            networks: networks::begin(),
            temperatures: Watch::begin("temperatures", SENSORS_LIMIT, || {
                || crate::platform::temperatures().map(bounded)
            }),
            batteries: Watch::begin("batteries", SENSORS_LIMIT, || {
                || crate::platform::batteries().map(bounded)
            }),
            processes: optional.processes.then(processes::begin),
            wrong: BTreeMap::new(),
        })
    }

    /// The machine now. What hangs or fails is named in the sample, and holds up nothing else.
    pub fn sample(&mut self, at: Timestamp) -> Sample {
        self.disks.ask();
        self.served_disks.ask();
        self.networks.ask();
        self.temperatures.ask();
        self.batteries.ask();
        if let Some(processes) = &self.processes {
            processes.ask();
        }
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.wait();
        self.served_disks.wait();
        self.networks.wait();
        self.temperatures.wait();
        self.batteries.wait();
        if let Some(processes) = &self.processes {
            processes.wait();
        }
        let faults = self.faults();
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
            networks: self.networks.known().unwrap_or_default(),
            disks: disks::all(&self.disks, &self.served_disks),
            uptime_seconds: crate::platform::boot_time().as_secs(),
            processes: crate::platform::process_count().unwrap_or(0),
            temperatures: self.temperatures.known().unwrap_or_default(),
            batteries: self.batteries.known().unwrap_or_default(),
            top_processes: self.processes.as_ref().and_then(Watch::known),
            faults,
        }
    }

    /// What is wrong now; the log says when that begins and when it ends.
    fn faults(&mut self) -> Vec<CollectorFault> {
        let faults: Vec<_> = [
            disks::fault(&self.disks),
            disks::fault(&self.served_disks),
            self.networks.fault(),
            self.temperatures.fault(),
            self.batteries.fault(),
            self.processes.as_ref().and_then(Watch::fault),
        ]
        .into_iter()
        .flatten()
        .collect();
        let wrong: BTreeMap<_, _> = faults
            .iter()
            .map(|fault| (fault.collector.clone(), fault.message.clone()))
            .collect();
        for (collector, message) in &wrong {
            if self.wrong.get(collector) != Some(message) {
                tracing::warn!(
                    collector,
                    message,
                    "a part of the machine cannot be looked at"
                );
            }
        }
        for collector in self.wrong.keys() {
            if !wrong.contains_key(collector) {
                tracing::info!(collector, "a part of the machine can be looked at again");
            }
        }
        self.wrong = wrong;
        faults
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
}

/// What a counter grew by each second, with one decimal; 0 when it began anew.
#[must_use]
pub fn per_second(before: u64, now: u64, seconds: f64) -> f64 {
    if seconds <= 0.0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss)] // what passes in a few seconds
    let grown = now.saturating_sub(before) as f64;
    (grown / seconds.max(0.001) * 10.0).round() / 10.0
}

fn bounded<T>(mut samples: Vec<T>) -> Vec<T> {
    samples.truncate(SENSORS_MAX);
    samples
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

//! How a machine is at one time: what each sample says. What an older agent does not say is absent, and what cannot be
//! looked at is named in `faults`.

use domain::Timestamp;
use serde::{Deserialize, Serialize};

/// One machine's report at one time. Percents 0 to 100, sizes in bytes, rates per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When it was collected; strictly increasing per machine.
    pub at: Timestamp,
    /// Processor use.
    pub cpu: CpuSample,
    /// Load averages; absent where the system has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadSample>,
    /// Memory.
    pub memory: MemorySample,
    /// Swap.
    pub swap: SwapSample,
    /// Mounted file systems.
    pub disks: Vec<DiskSample>,
    /// Network interfaces.
    pub networks: Vec<NetworkSample>,
    /// Seconds since boot.
    pub uptime_seconds: u64,
    /// How many processes there are.
    pub processes: u32,
    /// Temperatures, where the machine tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<TemperatureSample>,
    /// The machine's own batteries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batteries: Vec<BatterySample>,
    /// Who uses the most; only where the machine's owner has switched it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_processes: Option<TopProcesses>,
    /// What could not be looked at: what it would say is missing from this sample, or older than it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<CollectorFault>,
}

/// Processor use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuSample {
    /// All cores together, 0 to 100.
    pub percent: f64,
    /// Each core, 0 to 100.
    pub cores: Vec<f64>,
}

/// Load averages over one, five and fifteen minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadSample {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemorySample {
    /// All there is.
    pub total: u64,
    /// In use: total without available.
    pub used: u64,
    /// What can be given to programs without swapping.
    pub available: u64,
    /// Use, 0 to 100.
    pub percent: f64,
}

/// Swap, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapSample {
    /// All there is.
    pub total: u64,
    /// In use.
    pub used: u64,
}

/// A mounted file system, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskSample {
    /// Where it is mounted.
    pub mount: String,
    /// Its type, such as `ext4`.
    pub file_system: String,
    /// All there is.
    pub total: u64,
    /// In use: total without what is free.
    pub used: u64,
    /// Use, 0 to 100.
    pub percent: f64,
    /// What an ordinary user may still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// Bytes read from its device per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<f64>,
    /// Bytes written to its device per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<f64>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSample {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Bytes received per second.
    pub received: f64,
    /// Bytes sent per second.
    pub sent: f64,
    /// Packets received per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_received: Option<f64>,
    /// Packets sent per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_sent: Option<f64>,
    /// Damaged packets received per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_errors: Option<f64>,
    /// Packets that could not be sent per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_errors: Option<f64>,
    /// Packets received and dropped per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_drops: Option<f64>,
    /// Packets dropped instead of sent per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_drops: Option<f64>,
}

/// A temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemperatureSample {
    /// What is measured, such as `coretemp Package id 0`.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
    /// From where on it is too hot, as the hardware says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

/// A battery that the machine itself runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatterySample {
    /// Its name, such as `BAT0`.
    pub name: String,
    /// How full it is, 0 to 100.
    pub percent: f64,
    /// What it does.
    pub state: BatteryState,
}

/// What a battery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BatteryState {
    /// It takes power.
    Charging,
    /// It gives power.
    Discharging,
    /// It takes no more.
    Full,
    /// It does neither, and is not full.
    Idle,
    /// The machine does not say.
    Unknown,
}

/// The processes that use the most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopProcesses {
    /// Of processor time since the last look, the greatest use first.
    pub by_cpu: Vec<ProcessSample>,
    /// Of memory, the greatest use first.
    pub by_memory: Vec<ProcessSample>,
}

/// A process. Neither its command line nor its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessSample {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as the system has it.
    pub name: String,
    /// Its share of all cores together, 0 to 100.
    pub cpu_percent: f64,
    /// The memory that it holds, in bytes.
    pub memory: u64,
}

/// A part of the machine that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorFault {
    /// Who looks at it: `disks`, `network-disks`, `networks`, `temperatures`, `batteries`, `processes`.
    pub collector: String,
    /// What is wrong, for a person.
    pub message: String,
}

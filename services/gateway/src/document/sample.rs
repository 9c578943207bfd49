//! Samples, as the document shows them.

use chrono::{DateTime, Utc};
use contract::metrics as message;
use poem_openapi::{Enum, Object};

use crate::json::Documented;

/// Processor use.
#[derive(Object)]
pub struct CpuSample {
    /// All cores together, 0 to 100.
    percent: f64,
    /// Each core, 0 to 100.
    cores: Vec<f64>,
}

/// Load averages over one, five and fifteen minutes.
#[derive(Object)]
pub struct LoadSample {
    /// Over one minute.
    one: f64,
    /// Over five minutes.
    five: f64,
    /// Over fifteen minutes.
    fifteen: f64,
}

/// Memory, in bytes.
#[derive(Object)]
pub struct MemorySample {
    /// All there is.
    total: u64,
    /// In use: total without available.
    used: u64,
    /// What can be given to programs without swapping.
    available: u64,
    /// Use, 0 to 100.
    percent: f64,
}

/// Swap, in bytes.
#[derive(Object)]
pub struct SwapSample {
    /// All there is.
    total: u64,
    /// In use.
    used: u64,
}

/// A mounted file system, in bytes.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct DiskSample {
    /// Where it is mounted.
    mount: String,
    /// Its type, such as `ext4`.
    file_system: String,
    /// All there is.
    total: u64,
    /// In use: total without what is free.
    used: u64,
    /// Use, 0 to 100.
    percent: f64,
    /// What an ordinary user may still take.
    available: Option<u64>,
    /// Bytes read from its device per second.
    read: Option<f64>,
    /// Bytes written to its device per second.
    written: Option<f64>,
}

/// A network interface. What happened per second.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct NetworkSample {
    /// Its name, such as `eth0`.
    name: String,
    /// Bytes received.
    received: f64,
    /// Bytes sent.
    sent: f64,
    /// Packets received.
    packets_received: Option<f64>,
    /// Packets sent.
    packets_sent: Option<f64>,
    /// Damaged packets received.
    receive_errors: Option<f64>,
    /// Packets that could not be sent.
    send_errors: Option<f64>,
    /// Packets received and dropped.
    receive_drops: Option<f64>,
    /// Packets dropped instead of sent.
    send_drops: Option<f64>,
}

/// A temperature.
#[derive(Object)]
pub struct TemperatureSample {
    /// What is measured, such as `coretemp Package id 0`.
    name: String,
    /// Degrees Celsius.
    celsius: f64,
    /// From where on it is too hot, as the hardware says.
    critical: Option<f64>,
}

/// What a battery does.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
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

/// A battery that the machine itself runs on.
#[derive(Object)]
pub struct BatterySample {
    /// Its name, such as `BAT0`.
    name: String,
    /// How full it is, 0 to 100.
    percent: f64,
    state: BatteryState,
}

/// A process. Neither its command line nor its user.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ProcessSample {
    /// Its number.
    pid: u32,
    /// The name of its program, as the system has it.
    name: String,
    /// Its share of all cores together, 0 to 100.
    cpu_percent: f64,
    /// The memory that it holds, in bytes.
    memory: u64,
}

/// The processes that use the most, at most 10 each; only where the machine's owner has switched it on.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct TopProcesses {
    /// Of processor time since the sample before, the greatest use first.
    by_cpu: Vec<ProcessSample>,
    /// Of memory, the greatest use first.
    by_memory: Vec<ProcessSample>,
}

/// A part of the machine that could not be looked at: what it would say is missing, or older than the sample.
#[derive(Object)]
pub struct CollectorFault {
    /// Who looks at it: `disks`, `network-disks`, `networks`, `temperatures`, `batteries`, `processes`.
    collector: String,
    /// What is wrong, for a person.
    message: String,
}

/// One machine's report at one time.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Sample {
    /// When it was collected.
    at: DateTime<Utc>,
    cpu: CpuSample,
    load: Option<LoadSample>,
    memory: MemorySample,
    swap: SwapSample,
    /// Mounted file systems.
    disks: Vec<DiskSample>,
    /// Network interfaces.
    networks: Vec<NetworkSample>,
    /// Seconds since boot.
    uptime_seconds: u64,
    /// How many processes there are.
    processes: u32,
    /// Temperatures, where the machine tells them.
    temperatures: Option<Vec<TemperatureSample>>,
    /// The machine's own batteries.
    batteries: Option<Vec<BatterySample>>,
    // No documentation here: beside a reference it would become a schema of its own.
    top_processes: Option<TopProcesses>,
    /// What could not be looked at.
    faults: Option<Vec<CollectorFault>>,
}

/// A page of samples, the oldest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct SamplePage {
    /// The samples.
    items: Vec<Sample>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

impl Documented for contract::agent::Sample {
    type Schema = Sample;
}

impl Documented for message::SamplePage {
    type Schema = SamplePage;
}

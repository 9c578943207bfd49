//! Samples, as the document shows them.

use chrono::{DateTime, Utc};
use contract::metrics as message;
use poem_openapi::Object;

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
    /// In use: total without what is available.
    used: u64,
    /// Use, 0 to 100.
    percent: f64,
}

/// A network interface, in bytes per second.
#[derive(Object)]
pub struct NetworkSample {
    /// Its name, such as `eth0`.
    name: String,
    /// Received.
    received: f64,
    /// Sent.
    sent: f64,
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

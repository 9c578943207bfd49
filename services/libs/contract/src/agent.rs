//! What agents send upwards, on `df.up.<org>.<machine>.…`, and what they get back. The sender is read from the
//! subject, which the server's permissions fix; nothing in a body says who speaks.
//!
//! Rooms: [`sample`] how the machine is, [`inventory`] what it is.

use domain::action::Outcome;
use domain::{ActionId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

pub mod inventory;
pub mod sample;

pub use inventory::{
    Bios, INVENTORY_LIST_MAX, INVENTORY_MAX_BYTES, INVENTORY_TEXT_MAX_CHARS, Inventory,
    InventoryDisk, InventoryInterface,
};
pub use sample::{
    BatterySample, BatteryState, CollectorFault, CpuSample, DiskSample, LoadSample, MemorySample,
    NetworkSample, ProcessSample, Sample, SwapSample, TemperatureSample, TopProcesses,
};

/// Version of the form of what agents send.
pub const VERSION: u32 = 1;
/// The most bytes of one message of an agent.
pub const MESSAGE_MAX_BYTES: usize = 256 * 1024;
/// The most samples of one message.
pub const SAMPLES_MAX: usize = 64;

/// `accepted` and `started`: an order reached this step in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The action.
    pub action: ActionId,
    /// Its attempt.
    pub attempt: i32,
    /// When, by the agent's clock.
    pub at: Timestamp,
}

/// `result`: an attempt ended, as the journal says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultReport {
    /// The action.
    pub action: ActionId,
    /// Its attempt.
    pub attempt: i32,
    /// How it ended.
    pub outcome: Outcome,
    /// What the kind gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ActionError>,
    /// When it entered the journal, by the agent's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// When it began, by the agent's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended, by the agent's clock.
    pub finished_at: Timestamp,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionError {
    /// A word for programs, such as `policy-denied`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// What the owner did with a report, after its commit (law L2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Written.
    Applied,
    /// Already written: drop it.
    Duplicate,
    /// Not of the current attempt, or the action had ended otherwise: drop it.
    Fenced,
    /// Not written: send it again.
    Retry,
}

/// The answer to `accepted`, `started` and `result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportAnswer {
    /// What became of it.
    pub verdict: Verdict,
}

/// `metrics`: samples, the oldest first, with strictly increasing times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleBatch {
    /// 1 to [`SAMPLES_MAX`] samples.
    pub samples: Vec<Sample>,
}

/// The answer to `metrics`, after commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleAnswer {
    /// Everything up to this time is written, or refused for good: the agent forgets it.
    pub through: Timestamp,
    /// How many were refused for good (out of bounds, or older than the retention).
    pub refused: u32,
}

/// The answer to `inventory` and `stopping`, after commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Always true: a refusal comes as a problem.
    pub noted: bool,
}

/// `stopping`: the agent ends of its own will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    /// The life that ends.
    pub session_id: SessionId,
    /// Why, such as `SIGTERM` or `restart`.
    pub reason: String,
}

//! What agents send upwards, on `df.up.<org>.<machine>.…`, and what they get back. The sender is read from the
//! subject, which the server's permissions fix; nothing in a body says who speaks.

use domain::action::Outcome;
use domain::{ActionId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// Version of the form of what agents send.
pub const VERSION: u32 = 1;
/// The most bytes of one message of an agent.
pub const MESSAGE_MAX_BYTES: usize = 256 * 1024;
/// The most samples of one message.
pub const SAMPLES_MAX: usize = 64;
/// The longest text of an inventory, in characters.
pub const INVENTORY_TEXT_MAX_CHARS: usize = 256;

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskSample {
    /// Where it is mounted.
    pub mount: String,
    /// Its type, such as `ext4`.
    pub file_system: String,
    /// All there is.
    pub total: u64,
    /// In use: total without what is available.
    pub used: u64,
    /// Use, 0 to 100.
    pub percent: f64,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSample {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Bytes received per second.
    pub received: f64,
    /// Bytes sent per second.
    pub sent: f64,
}

/// `inventory`: what the machine is. Sent at enrolment and when it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Operating system, such as `Debian GNU/Linux`.
    #[serde(default)]
    pub os: String,
    /// Its version.
    #[serde(default)]
    pub os_version: String,
    /// Kernel version.
    #[serde(default)]
    pub kernel: String,
    /// Processor architecture, such as `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// Processor model.
    #[serde(default)]
    pub cpu_model: String,
    /// Logical cores.
    #[serde(default)]
    pub cpu_cores: u32,
    /// Memory, in bytes.
    #[serde(default)]
    pub memory_total: u64,
    /// Version of the agent.
    #[serde(default)]
    pub agent_version: String,
}

impl Inventory {
    /// Checks the texts, which come from a stranger. `under` is the path that leads here: empty, or `inventory.`.
    ///
    /// # Errors
    /// INVALID naming the field: longer than [`INVENTORY_TEXT_MAX_CHARS`] characters, or with control characters.
    pub fn check(&self, under: &str) -> Result<(), Problem> {
        let Self {
            os,
            os_version,
            kernel,
            architecture,
            cpu_model,
            agent_version,
            cpu_cores: _,
            memory_total: _,
        } = self;
        for (field, text) in [
            ("os", os),
            ("osVersion", os_version),
            ("kernel", kernel),
            ("architecture", architecture),
            ("cpuModel", cpu_model),
            ("agentVersion", agent_version),
        ] {
            let length = text.chars().count();
            let wrong = if length > INVENTORY_TEXT_MAX_CHARS {
                format!("has {length} characters; at most {INVENTORY_TEXT_MAX_CHARS}")
            } else if text.chars().any(char::is_control) {
                "has control characters".to_owned()
            } else {
                continue;
            };
            return Err(Problem::invalid(format!("{under}{field}"), wrong));
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_texts_of_an_inventory_are_named() {
        let long = Inventory {
            cpu_model: "x".repeat(INVENTORY_TEXT_MAX_CHARS + 1),
            ..Inventory::default()
        };
        let odd = Inventory {
            kernel: "6.1\0".into(),
            ..Inventory::default()
        };
        let paths = |inventory: &Inventory, under| {
            inventory.check(under).map_err(|problem| {
                let errors = problem.errors.into_iter();
                errors.map(|error| error.path).collect::<Vec<_>>()
            })
        };
        assert_eq!(paths(&long, ""), Err(vec!["cpuModel".to_owned()]));
        assert_eq!(
            paths(&odd, "inventory."),
            Err(vec!["inventory.kernel".to_owned()])
        );
        assert_eq!(paths(&Inventory::default(), ""), Ok(()));
    }
}

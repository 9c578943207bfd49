//! Calls that the metrics service answers.

use domain::health::{Health, HealthStatus};
use domain::labels::Labels;
use domain::machine::MachineStatus;
use domain::{MachineId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::agent::{Inventory, Sample};

/// The service's name on the bus.
pub const SERVICE: &str = "metrics";

/// How a list of machines is sorted; `Desc` variants the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MachineSort {
    /// By name.
    #[default]
    Hostname,
    /// By name, Z first.
    HostnameDesc,
    /// By when it was last seen, oldest first.
    LastSeen,
    /// By when it was last seen, newest first.
    LastSeenDesc,
    /// By health score, the worst first.
    Health,
    /// By health score, the best first.
    HealthDesc,
}

/// `machine.list`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineList {
    /// `env=prod,role!=db`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Only in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MachineStatus>,
    /// Only in this health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// The order.
    #[serde(default)]
    pub sort: MachineSort,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinePage {
    /// The machines.
    pub items: Vec<Machine>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `machine.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineGet {
    /// The machine.
    pub machine_id: MachineId,
    /// Not before identity's change of this number is seen in it: who has just edited it reads what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<i64>,
}

impl From<MachineId> for MachineGet {
    /// The machine as it is known now.
    fn from(machine_id: MachineId) -> Self {
        Self {
            machine_id,
            change: None,
        }
    }
}

/// The most machines of one answer to `machine.select`: 80 KiB of ids.
pub const SELECT_LIMIT_MAX: u32 = 2_000;

/// `machine.select`: the machines that a selector chooses, for a service that acts for the caller whose grant it
/// forwards. Those that are revoked are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineSelect {
    /// `env=prod,role!=db`; the empty one chooses every machine.
    pub selector: String,
    /// At most so many, 1 to [`SELECT_LIMIT_MAX`].
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<MachineId>,
}

/// A page of what a selector chooses, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineSelection {
    /// The machines.
    pub items: Vec<MachineId>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<MachineId>,
}

/// How a machine reaches us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Transport {
    /// The bus.
    #[default]
    Nats,
    /// The ancestors' HTTP.
    Http,
}

impl Transport {
    /// The name as it is stored and sent: `NATS`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "NATS",
            Self::Http => "HTTP",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Nats, Self::Http]
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or_else(|| format!("unknown transport `{text}`; known are NATS, HTTP"))
    }
}

/// What stands behind a machine's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trust {
    /// A key of its own: what it says, it signed.
    Verified,
    /// A name that whoever has the legacy key can say: it came with the same key from the same block of addresses.
    Unverified,
}

/// A machine as its owner shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// Its name, as it said it.
    pub hostname: String,
    /// The name that an operator gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// An operator's notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Where it stands.
    pub status: MachineStatus,
    /// Why, for a person: `connected`, `lost`, `clean stop`, `revoked`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How it reaches us.
    pub transport: Transport,
    /// What stands behind its name.
    pub trust: Trust,
    /// Its labels.
    pub labels: Labels,
    /// What it is.
    pub inventory: Inventory,
    /// How it was at the latest sample; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The latest sample; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_sample: Option<Sample>,
    /// When it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
}

/// `sample.list`: raw samples of one machine, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleList {
    /// The machine.
    pub machine_id: MachineId,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub to: Timestamp,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplePage {
    /// The samples.
    pub items: Vec<Sample>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `presence.history`: when one machine came and went, the newest change first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceHistory {
    /// The machine.
    pub machine_id: MachineId,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub to: Timestamp,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A change of presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChange {
    /// When.
    pub at: Timestamp,
    /// Whether the machine was online from then on.
    pub online: bool,
    /// Why, in words.
    pub reason: String,
}

/// A page of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceHistoryPage {
    /// The changes.
    pub items: Vec<PresenceChange>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `availability.get`: how much of each day one machine was online.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityGet {
    /// The machine.
    pub machine_id: MachineId,
    /// From the day of this time on, by UTC.
    pub from: Timestamp,
    /// To the end of the day of this time; when it is midnight, before that day.
    pub to: Timestamp,
}

/// A machine's days, the oldest first; only those in which it was known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    /// The days.
    pub items: Vec<AvailabilityOfDay>,
}

/// One day of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityOfDay {
    /// The day, by UTC: `2026-11-21`.
    pub day: String,
    /// How much of it the machine was enrolled, in milliseconds; so far, for today.
    pub observed_ms: i64,
    /// How much of that it was online, in milliseconds.
    pub online_ms: i64,
    /// The same as a share, 0 to 100, with three decimals.
    pub percent: f64,
}

/// `presence.get`: machines of all organisations whose presence changed after a version, for a service that mirrors it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceGet {
    /// Presence changed after this version; 0 for all.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// A page of presence, the oldest change first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresencePage {
    /// The machines.
    pub items: Vec<Presence>,
    /// Whether there is more.
    pub more: bool,
}

/// Whether one machine holds a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The organisation.
    pub org: domain::OrgId,
    /// The machine.
    pub machine_id: MachineId,
    /// Whether it does.
    pub online: bool,
    /// Grows with each change of the machine's presence.
    pub version: i64,
}

crate::call!(MachineList => MachinePage: "metrics", "machine", "list", Gateway, idempotent: true);
crate::call!(MachineGet => Machine: "metrics", "machine", "get", Gateway, idempotent: true);
crate::call!(MachineSelect => MachineSelection: "metrics", "machine", "select", Services, idempotent: true);
crate::call!(SampleList => SamplePage: "metrics", "sample", "list", Gateway, idempotent: true);
crate::call!(PresenceHistory => PresenceHistoryPage: "metrics", "presence", "history", Gateway, idempotent: true);
crate::call!(AvailabilityGet => Availability: "metrics", "availability", "get", Gateway, idempotent: true);
crate::call!(PresenceGet => PresencePage: "metrics", "presence", "get", Services, idempotent: true);

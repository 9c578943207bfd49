//! What agents of Dash-Fleet over HTTP bring about: calls that metrics, action and identity answer for the routes that
//! have no version. Each owner holds name, key and address block against its own mirror; where these do not fit it
//! asks identity, which binds a new machine or quarantines a changed one ([`LegacyBind`]).

use std::net::IpAddr;

use domain::action::ActionKind;
use domain::text::is_hidden;
use domain::{ActionId, CredentialId, MachineId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Problem;

/// The longest name of a machine, in characters.
pub const NAME_MAX_CHARS: usize = 253;
/// The longest text of a report, in characters.
pub const TEXT_MAX_CHARS: usize = 64;
/// The most machines of one page of the fleet: with reports of a few hundred bytes each, a fraction of what the bus takes.
pub const FLEET_PAGE_MAX: u32 = 1_000;

/// What a machine over HTTP is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyBinding {
    /// Its name, as it says it.
    pub name: String,
    /// The key with which it comes.
    pub key: CredentialId,
    /// The block of addresses from which it comes, such as `192.0.2.0/24`.
    pub block: String,
}

/// `legacy.bind`: a service does not know a machine by name, key and block. With the caller's grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyBind {
    /// The name.
    pub name: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// Whether a name that nobody has becomes a machine.
    pub create: bool,
}

/// A machine that may speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyBound {
    /// The machine.
    pub machine_id: MachineId,
}

/// `legacy.report`: a machine says how it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyReport {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// What it says.
    pub figures: LegacyFigures,
}

/// The words of a report, named as Dash-Fleet names them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the words of CONTRACTS' table
pub struct LegacyFigures {
    pub cpu_percent: f64,
    pub ram_percent: f64,
    pub disk_percent: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_used_gib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_total_gib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_used_gib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_gib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// A text or a number; only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_hms: Option<Value>,
    /// A time with a zone is the sample's when it is near ours; any other is only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Value>,
}

/// A report that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyReported {
    /// The organisation.
    pub org: OrgId,
    /// The machine.
    pub machine_id: MachineId,
}

/// `legacy.fleet`: machines over HTTP by name, but for revoked ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyFleet {
    /// The last name of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to [`FLEET_PAGE_MAX`].
    pub limit: u32,
}

/// A page of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyFleetPage {
    /// The organisation.
    pub org: OrgId,
    /// The machines that have reported.
    pub items: Vec<LegacyMachine>,
    /// The last name of the page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A machine as its latest report shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyMachine {
    /// Its name.
    pub name: String,
    /// The address that the report came from.
    pub client: String,
    /// When it came.
    pub at: Timestamp,
    /// The report.
    pub figures: LegacyFigures,
    /// Seconds until it counts as expired; 0 when it does.
    pub ttl_remaining_seconds: u32,
}

/// `legacy.queue`: a machine over HTTP, by its name, is to do one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyQueue {
    /// Its name.
    pub name: String,
    /// The kind, as the caller wrote it.
    pub kind: String,
    /// What the kind takes.
    pub payload: Value,
}

/// An action that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyQueued {
    /// The action.
    pub action_id: ActionId,
}

/// `legacy.pending`: a machine asks what it is to do. What it gets is leased to it: without a report in time it gets
/// that again, as the next attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyPending {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub address: IpAddr,
}

/// What a machine is handed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyTasks {
    /// In the order in which they were queued.
    pub items: Vec<LegacyTask>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyTask {
    /// The action.
    pub action_id: ActionId,
    /// The attempt, from 1.
    pub attempt: i32,
    /// The kind.
    pub kind: ActionKind,
    /// What the kind takes.
    pub payload: Value,
}

/// `legacy.result`: a machine says what became of what it was handed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyResult {
    /// The action.
    pub action_id: ActionId,
    /// The attempt that ended; absent when the agent does not know of attempts: then the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Whether it was done.
    pub done: bool,
    /// What the agent says of it.
    pub result: Value,
    /// Where it comes from.
    pub address: IpAddr,
}

/// Taken, or known already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyNoted {
    /// Whether it changed anything.
    pub applied: bool,
}

/// Checks a name.
///
/// # Errors
/// INVALID naming `machine_id`.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let wrong = |message: String| Err(Problem::invalid("machine_id", message));
    let length = name.chars().count();
    if name.trim().is_empty() {
        return wrong("must not be empty".into());
    }
    // The gateway takes it away; a name that has it all the same would look like another machine's.
    if name.trim() != name {
        return wrong("begins or ends with space".into());
    }
    if length > NAME_MAX_CHARS {
        return wrong(format!("has {length} characters; at most {NAME_MAX_CHARS}"));
    }
    if name.chars().any(char::is_control) {
        return wrong("has control characters".into());
    }
    if name.chars().any(is_hidden) {
        return wrong("has invisible characters that change how it reads".into());
    }
    Ok(())
}

crate::call!(LegacyBind => LegacyBound: "identity", "legacy", "bind", Services, idempotent: true);
crate::call!(LegacyReport => LegacyReported: "metrics", "legacy", "report", Gateway, idempotent: true);
crate::call!(LegacyFleet => LegacyFleetPage: "metrics", "legacy", "fleet", Gateway, idempotent: true);
crate::call!(LegacyQueue => LegacyQueued: "action", "legacy", "queue", Gateway, idempotent: false);
crate::call!(LegacyPending => LegacyTasks: "action", "legacy", "pending", Gateway, idempotent: true);
crate::call!(LegacyResult => LegacyNoted: "action", "legacy", "result", Gateway, idempotent: true);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_text_that_can_be_shown() {
        for good in [
            "web-1",
            "org machine",
            "0192f0c0-0000-7000-8000-000000000000",
        ] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in [
            "",
            "  ",
            " web",
            "web ",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            &"x".repeat(254),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}

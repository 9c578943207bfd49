//! Calls that the action service answers.

use domain::action::{ActionKind, ActionStatus};
use domain::{ActionId, MachineId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::agent::ActionError;

/// The service's name on the bus.
pub const SERVICE: &str = "action";

/// `action.create`: one machine is to do one thing. The scheduler asks too, with the grant of the principal on whose behalf an
/// execution runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionCreate {
    /// The machine.
    pub machine_id: MachineId,
    /// The kind, as the caller wrote it.
    pub kind: String,
    /// What the kind takes.
    pub payload: serde_json::Value,
    /// After this it must not begin; seven days from now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Whether it may be run again after an interruption.
    #[serde(default)]
    pub idempotent: bool,
    /// The caller's `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whether the key alone says which action is meant, whatever else is asked for with it. So it is for an attempt of an execution:
    /// the one before it may have read other words in the job, or had another deadline. Such keys are apart from all others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_key_alone: bool,
}

/// `action.fan-out`: every machine that a selector chooses is to do one thing. All of them or none: one commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionFanOut {
    /// `env=prod,role!=db`, as the caller wrote it; not empty. It may choose
    /// [`FAN_OUT_MAX`](domain::action::FAN_OUT_MAX) machines.
    pub selector: String,
    /// The kind, as the caller wrote it.
    pub kind: String,
    /// What the kind takes.
    pub payload: serde_json::Value,
    /// After this none must begin; seven days from now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Whether each may be run again after an interruption.
    #[serde(default)]
    pub idempotent: bool,
    /// The caller's `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The actions of one fan-out, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionBatch {
    /// One for each machine.
    pub items: Vec<ActionSummary>,
}

/// An action without what can be large (payload, result, error) and without what only its life adds: 240 bytes of JSON
/// at most, so that the largest batch fits into one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionSummary {
    /// Its id.
    pub id: ActionId,
    /// The machine.
    pub machine_id: MachineId,
    /// The kind.
    pub kind: ActionKind,
    /// Where it stands.
    pub status: ActionStatus,
    /// Its place among the machine's actions.
    pub seq: i64,
    /// After this it must not begin.
    pub not_after: Timestamp,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// `action.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionGet {
    /// The action.
    pub action_id: ActionId,
}

/// `action.cancel`: before it was offered the server ends it; afterwards it is a request to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionCancel {
    /// The action.
    pub action_id: ActionId,
}

/// `action.list`: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionList {
    /// Only of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
    /// Only in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ActionStatus>,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionPage {
    /// The actions.
    pub items: Vec<Action>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An action as its owner shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Its id.
    pub id: ActionId,
    /// The machine.
    pub machine_id: MachineId,
    /// The kind.
    pub kind: ActionKind,
    /// Where it stands.
    pub status: ActionStatus,
    /// What the kind takes.
    pub payload: serde_json::Value,
    /// What the machine gave back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ActionError>,
    /// Its place among the machine's actions.
    pub seq: i64,
    /// The current attempt, from 1.
    pub attempt: i32,
    /// Whether it may be run again after an interruption.
    pub idempotent: bool,
    /// Whether somebody asked that it should not begin.
    pub cancel_requested: bool,
    /// Whether the result came after the action had been given up as UNKNOWN.
    pub late: bool,
    /// After this it must not begin.
    pub not_after: Timestamp,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When the machine's journal had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When it began, by the machine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended, by the machine's clock, or by the server's when the server ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

crate::call!(ActionCreate => Action: "action", "action", "create", Both, idempotent: false);
crate::call!(ActionFanOut => ActionBatch: "action", "action", "fan-out", Gateway, idempotent: false);
crate::call!(ActionGet => Action: "action", "action", "get", Gateway, idempotent: true);
crate::call!(ActionCancel => Action: "action", "action", "cancel", Gateway, idempotent: true);
crate::call!(ActionList => ActionPage: "action", "action", "list", Gateway, idempotent: true);

#[cfg(test)]
mod tests {
    use domain::action::FAN_OUT_MAX;

    use super::*;
    use crate::server_config::MAX_PAYLOAD;

    #[test]
    fn the_largest_batch_fits_into_one_message() -> Result<(), serde_json::Error> {
        let mut longest = 0;
        for kind in ActionKind::ALL {
            for status in ActionStatus::ALL {
                let summary = ActionSummary {
                    id: ActionId::new(),
                    machine_id: MachineId::new(),
                    kind,
                    status,
                    seq: i64::MAX,
                    not_after: Timestamp::now(),
                    created_at: Timestamp::now(),
                };
                longest = longest.max(serde_json::to_vec(&summary)?.len());
            }
        }
        assert!(longest <= 240, "{longest} bytes");
        assert!((longest + 1) * FAN_OUT_MAX < MAX_PAYLOAD * 3 / 4);
        Ok(())
    }
}

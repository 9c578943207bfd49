//! Actions, as the document shows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::action as message;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use crate::json::Documented;

/// What a machine can be told to do.
#[derive(Enum)]
#[oai(rename_all = "lowercase")]
pub enum ActionKind {
    /// Answer.
    Ping,
    /// Show a text to whoever uses the machine.
    Message,
    /// Restart the agent.
    Restart,
    /// Restart the machine.
    Reboot,
}

/// Where an action stands. From `SUCCEEDED` on it has ended; only `UNKNOWN` may still be replaced, by a result that
/// comes late.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActionStatus {
    /// Committed, and not yet accepted by the machine.
    Queued,
    /// In the machine's journal.
    Delivered,
    /// It began.
    Running,
    /// Done; the machine says so.
    Succeeded,
    /// Not done, or done wrongly; `error` says why.
    Failed,
    /// `notAfter` passed before it began. Not executed.
    Expired,
    /// Cancelled before it began. Not executed.
    Cancelled,
    /// The agent died in the middle; it may have been done in part.
    Interrupted,
    /// The machine never said.
    Unknown,
}

/// An action to be queued: for the machine `machineId`, or for every machine that `selector` chooses. Exactly one of the
/// two is given.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ActionCreate {
    /// The machine.
    machine_id: Option<Uuid>,
    /// The labels of the machines, as in the list of machines: `env=prod,role!=db,gpu,!legacy`. It may choose 10,000
    /// machines; revoked ones are left out.
    #[oai(validator(min_length = 1))]
    selector: Option<String>,
    kind: ActionKind,
    /// What the kind takes: `ping {}`; `message {title?, message}`; `restart {}`; `reboot {delaySeconds?}`. At most
    /// 64 KiB.
    payload: HashMap<String, Value>,
    /// After this it must not begin: seven days from now when absent, at most thirty.
    not_after: Option<DateTime<Utc>>,
    /// Whether it may be run again after an interruption.
    #[oai(default)]
    idempotent: bool,
}

/// Why an action did not succeed.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ActionError {
    /// A word for programs, such as `policy-denied`.
    code: String,
    /// A sentence for people.
    message: String,
}

/// An action.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Action {
    /// Its id.
    id: Uuid,
    /// The machine.
    machine_id: Uuid,
    kind: ActionKind,
    status: ActionStatus,
    /// What the kind takes.
    payload: HashMap<String, Value>,
    /// What the machine gave back.
    result: Option<Value>,
    error: Option<ActionError>,
    /// Its place among the machine's actions.
    seq: i64,
    /// The current attempt, from 1.
    attempt: i32,
    /// Whether it may be run again after an interruption.
    idempotent: bool,
    /// Whether somebody asked that it should not begin.
    cancel_requested: bool,
    /// Whether the result came after the action had been given up as `UNKNOWN`.
    late: bool,
    /// After this it must not begin.
    not_after: DateTime<Utc>,
    /// When it was committed.
    created_at: DateTime<Utc>,
    /// When the machine's journal had it.
    delivered_at: Option<DateTime<Utc>>,
    /// When it began, by the machine's clock.
    started_at: Option<DateTime<Utc>>,
    /// When it ended: by the machine's clock, or by the server's when the server ended it.
    finished_at: Option<DateTime<Utc>>,
}

/// An action in short: without its payload and what became of it, which `GET /api/v1/actions/{id}` has.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ActionSummary {
    /// Its id.
    id: Uuid,
    /// The machine.
    machine_id: Uuid,
    kind: ActionKind,
    status: ActionStatus,
    /// Its place among the machine's actions.
    seq: i64,
    /// After this it must not begin.
    not_after: DateTime<Utc>,
    /// When it was committed.
    created_at: DateTime<Utc>,
}

/// The actions that one request queued, whatever their number in one answer.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ActionBatch {
    /// One for each machine that was chosen; none when none was.
    items: Vec<ActionSummary>,
}

/// A page of actions, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ActionPage {
    /// The actions.
    items: Vec<Action>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

impl Documented for message::Action {
    type Schema = Action;
}

impl Documented for message::ActionBatch {
    type Schema = ActionBatch;
}

impl Documented for message::ActionPage {
    type Schema = ActionPage;
}

impl Documented for domain::action::ActionStatus {
    type Schema = ActionStatus;
}

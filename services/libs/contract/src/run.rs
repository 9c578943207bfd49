//! What workers say to the scheduler. Their pool is the token of the subject that permissions fix (`worker-<pool>`); that a
//! worker speaks for an execution is shown by the execution's token, which the claim made and nobody else was told.

use domain::execution::Outcome;
use domain::{ExecutionId, JobId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::execution::{ExecutionError, RunAs};

/// The most offers of one claim, and the most items of one finish.
pub const ITEMS_MAX: usize = 512;

/// An execution that may be claimed: what `df.work.<pool>` brings. It gives no right to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offer {
    /// Its organisation.
    pub org: OrgId,
    /// The execution.
    pub id: ExecutionId,
    /// Its place among what is offered: of two that a worker has no room for yet the lower goes first. Not a number of anything; 0
    /// says that its organisation had nothing else out, and then the claim waits for no others.
    #[serde(default)]
    pub turn: u64,
}

/// A message on `df.work.<pool>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// Executions, in the order in which they should begin.
    pub items: Vec<Offer>,
}

/// `run.begin`: a worker's life begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunBegin {
    /// The session's id, which the worker made: asked twice, it is the same session.
    pub session_id: Uuid,
    /// The worker's name, for people.
    pub worker: String,
    /// How many handlers it runs at once.
    pub concurrency: i32,
    /// The session before, if it was lost: its handlers are ended, so what it had may begin elsewhere at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Uuid>,
}

/// A session holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunLease {
    /// For so long from when it was asked, in milliseconds.
    pub lease_ms: u64,
    /// Executions of the session that somebody cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<ExecutionId>,
    /// Something of what handlers said is not written: all of it is to be said again with the next renewal, where nothing newer was
    /// said meanwhile.
    #[serde(default)]
    pub progress_missed: bool,
    /// What the session has had for longer than a lease, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<Offer>,
}

/// `run.renew`: the worker lives. NOT_FOUND when the session has expired: it must end its handlers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRenew {
    /// The session.
    pub session_id: Uuid,
    /// What handlers last said of how far they are; at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<RunProgress>,
    /// Asks what the session has: there may be something of which the worker was never told.
    #[serde(default)]
    pub given: bool,
}

/// How far an execution is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunProgress {
    /// Its place.
    #[serde(flatten)]
    pub place: Place,
    /// What the handler said; at most 4 KiB of JSON.
    pub progress: Value,
}

/// An attempt that a worker has, by its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The organisation.
    pub org: OrgId,
    /// The execution.
    pub id: ExecutionId,
    /// The attempt.
    pub attempt: i32,
    /// The token that the claim gave.
    pub token: Uuid,
}

/// `run.claim`: may these begin here? Those that may are RUNNING when the answer comes. Asked again, because no answer came, it
/// gives the same once more: until it is answered, what it was given runs nowhere. NOT_FOUND when the session has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunClaim {
    /// The session.
    pub session_id: Uuid,
    /// The executions, at most 512, in the order in which they were offered.
    pub offers: Vec<Offer>,
    /// How many offers should be out for this worker once these are answered: what other claims ask for, what it has room for besides,
    /// and what handlers will have ended by the time that more can come.
    #[serde(default)]
    pub want: u32,
    /// Executions that were offered and are not asked for: others may have them at once. At most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returned: Vec<ExecutionId>,
}

/// What a claim gave. What is not in it must not begin, and needs no more thought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunClaimed {
    /// The executions, with all that their handlers need; at most a megabyte of them.
    pub granted: Vec<Assignment>,
}

/// An attempt that is this worker's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Its place.
    #[serde(flatten)]
    pub place: Place,
    /// The job.
    pub job_id: JobId,
    /// What runs, such as `builtin/noop`.
    pub handler: String,
    /// What it is given: the job's configuration, with what this execution replaces of it.
    pub config: Map<String, Value>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: i64,
    /// On whose behalf.
    pub run_as: RunAs,
    /// Attempts before this one whose handlers came to an end, COMPLETED or FAILED, from 0: the same in every attempt that follows one that was
    /// lost, or stopped in the middle.
    pub concluded: i32,
    /// When it was to run first.
    pub scheduled_for: Timestamp,
    /// The trace of who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// `run.finish`: attempts that have ended. Sent again until each is answered otherwise than by silence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFinish {
    /// At most 512.
    pub items: Vec<Finish>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finish {
    /// Its place.
    #[serde(flatten)]
    pub place: Place,
    /// How; not LOST.
    pub outcome: Outcome,
    /// How long the handler ran, in milliseconds, by the worker's clock.
    pub duration_ms: i64,
    /// What it returned; at most 64 KiB of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
    /// Whether another attempt is useless, whatever the job allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permanent: bool,
    /// Whether its handler did not begin: of what is handed back so, the job's rate has not used up anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unbegun: bool,
}

/// What became of a finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FinishVerdict {
    /// It is committed.
    Applied,
    /// It had been.
    Duplicate,
    /// The attempt is not this worker's any more: forget it.
    Fenced,
    /// Not now: say it again.
    Retry,
}

/// The verdicts, in the order of the items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFinished {
    /// One for each item.
    pub verdicts: Vec<FinishVerdict>,
}

/// `run.log`: what handlers logged. The same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunLog {
    /// At most 128, together at most a megabyte.
    pub items: Vec<LogChunk>,
}

/// Lines that an attempt logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogChunk {
    /// Its place.
    #[serde(flatten)]
    pub place: Place,
    /// The number of the first line in the attempt, from 0.
    pub first: i64,
    /// The lines, each at most 8 KiB; at most 64 KiB together.
    pub lines: Vec<String>,
}

/// What became of each chunk, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunLogged {
    /// One for each chunk.
    pub verdicts: Vec<FinishVerdict>,
}

/// `run.act`: `builtin/action` queues an action with the right that the execution's principal has now. FORBIDDEN when it has
/// none; CONFLICT when the attempt is not this worker's any more, or its job does not say this action (any more). The key is the
/// scheduler's to give: however many attempts an execution has, it queues one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAct {
    /// The attempt.
    #[serde(flatten)]
    pub place: Place,
    /// What is to be done.
    pub action: crate::action::ActionCreate,
}

/// `run.end`: the worker stops. What it still has begins elsewhere at once; no attempt is used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// The session, whose handlers are ended.
    pub session_id: Uuid,
}

/// Nothing but that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnded {}

crate::call!(RunBegin => RunLease: "scheduler", "run", "begin", Services, idempotent: true);
crate::call!(RunRenew => RunLease: "scheduler", "run", "renew", Services, idempotent: true);
crate::call!(RunClaim => RunClaimed: "scheduler", "run", "claim", Services, idempotent: true);
crate::call!(RunFinish => RunFinished: "scheduler", "run", "finish", Services, idempotent: true);
crate::call!(RunLog => RunLogged: "scheduler", "run", "log", Services, idempotent: true);
crate::call!(RunAct => crate::action::Action: "scheduler", "run", "act", Services, idempotent: true);
crate::call!(RunEnd => RunEnded: "scheduler", "run", "end", Services, idempotent: true);

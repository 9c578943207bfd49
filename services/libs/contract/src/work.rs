//! How work is offered: subjects, and what the scheduler's replicas tell each other. Doorbells, all of it (law L1).

use domain::{ExecutionId, JobId, OrgId};
use serde::{Deserialize, Serialize};

/// Where the scheduler's replicas tell each other what changed. Only the scheduler says and hears it.
pub const BELL: &str = "df.scheduler.bell";
/// The most items of a [`Bell`]; what is more is found when somebody looks.
pub const BELL_MAX: usize = 512;

/// What changed in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bell {
    /// The replica that says so.
    pub from: uuid::Uuid,
    /// The pool.
    pub pool: String,
    /// Lanes in which something waits now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<Lane>,
    /// Executions that were made a moment ago and may begin, for all that is known: the most urgent of a request. Of the others the lanes
    /// are said, after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// Executions that wait no more: their offers are answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<ExecutionId>,
    /// Executions that were refused, or returned by a worker that has no room: their offers are answered too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<ExecutionId>,
    /// How many offers who claimed them wants to be out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
}

/// What a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its session.
    pub session: uuid::Uuid,
    /// So many offers out for it.
    pub offers: u32,
}

/// An execution that was made a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its lane.
    pub lane: Lane,
    /// The execution.
    pub id: ExecutionId,
}

/// Executions that can be held back together: those of one job with one concurrency key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// The organisation.
    pub org: OrgId,
    /// The job.
    pub job: JobId,
    /// The concurrency key; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// `df.work.<pool>`
#[must_use]
pub fn subject(pool: &str) -> String {
    format!("df.work.{}", crate::subject::escape(pool))
}

/// The inbox prefix of a pool's workers.
#[must_use]
pub fn inbox(pool: &str) -> String {
    format!("_INBOX.w.{}", crate::subject::escape(pool))
}

/// A worker's name as a caller: `worker-<pool>`.
#[must_use]
pub fn caller(pool: &str) -> String {
    format!("worker-{pool}")
}

/// The pool of a caller; `None` for who is no worker.
#[must_use]
pub fn pool_of(caller: &str) -> Option<&str> {
    caller.strip_prefix("worker-")
}

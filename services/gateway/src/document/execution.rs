//! Executions, as the document shows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::execution as message;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use super::auth::PrincipalKind;
use crate::inbound::execution::Started;
use crate::json::Documented;

/// Where an execution stands. From `COMPLETED` on it has ended; all but that can begin again.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionStatus {
    /// It waits: for its time, for a free slot, or for its next attempt.
    Pending,
    /// A worker has it.
    Running,
    /// The handler returned.
    Completed,
    /// The handler failed, as often as the job allows; or its workers died.
    Failed,
    /// The last attempt that the job allows took longer than its timeout.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
}

/// How an attempt ended.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttemptOutcome {
    /// The handler returned.
    Completed,
    /// The handler failed.
    Failed,
    /// It took too long, and was ended.
    Timeout,
    /// It was ended because somebody cancelled the execution.
    Cancelled,
    /// The worker stopped and gave it back: no attempt was used up.
    HandedBack,
    /// Nobody knows: its worker was lost.
    Lost,
}

/// On whose behalf something runs.
#[derive(Object)]
pub struct RunAs {
    kind: PrincipalKind,
    /// The user's or key's id.
    id: Uuid,
}

/// Why an attempt did not complete.
#[derive(Object)]
pub struct ExecutionError {
    /// A sentence.
    message: String,
    /// Where, in the handler's own code.
    stack: Option<String>,
}

/// An attempt that is over and was followed by another.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, from 1.
    attempt: i32,
    outcome: AttemptOutcome,
    /// When the worker got it.
    started_at: DateTime<Utc>,
    /// When its end was known.
    ended_at: DateTime<Utc>,
    error: Option<ExecutionError>,
}

/// An execution of a job.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Execution {
    /// Its id.
    id: Uuid,
    /// The job.
    job_id: Uuid,
    status: ExecutionStatus,
    /// The attempt that runs, or was the last; 0 before the first.
    attempt: i32,
    run_as: RunAs,
    /// Its place within the organisation: the highest first.
    priority: i16,
    /// What it replaces of the job's configuration.
    config: Option<HashMap<String, Value>>,
    /// While it waits or runs, no other of the job has this key.
    deduplication_key: Option<String>,
    /// What the job's `keyConcurrency` counts by.
    concurrency_key: Option<String>,
    /// When it was to run first.
    scheduled_for: DateTime<Utc>,
    /// When it was committed.
    created_at: DateTime<Utc>,
    /// When the next attempt may begin; while it waits.
    run_at: Option<DateTime<Utc>>,
    /// When the attempt began.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    completed_at: Option<DateTime<Utc>>,
    /// From the last attempt's start, when it was given to a worker, to the commit of its end, in milliseconds; once it has ended.
    duration: Option<i64>,
    /// What the handler returned.
    result: Option<Value>,
    error: Option<ExecutionError>,
    /// What the handler last said of how far it is; while it runs.
    progress: Option<Value>,
    /// The attempts before, the last fifty of them.
    attempts: Option<Vec<Attempt>>,
    /// Whether it failed as often as its job allows, and waits for somebody to look at it.
    dead_letter: bool,
    /// Whether somebody asked that it should stop.
    cancel_requested: bool,
    /// Whether it was there already, with the same deduplication key; where it was asked for.
    duplicate: Option<bool>,
    /// The last 64 KiB of its log; where it is looked at alone.
    logs: Option<Vec<String>>,
    /// Whether there was more.
    logs_truncated: Option<bool>,
}

/// An execution that was asked for: its id also as `executionId`.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionStarted {
    #[oai(flatten = true)]
    execution: Execution,
    /// Its id.
    execution_id: Uuid,
}

/// A page of executions, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionPage {
    /// The executions, without their logs.
    items: Vec<Execution>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// One of many executions that are asked for.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionBatchItem {
    /// The job.
    job_id: Uuid,
    /// Replaces fields of the job's configuration, those of the first level. At most 64 KiB.
    config: Option<HashMap<String, Value>>,
    /// Instead of the job's, from -100 to 100.
    priority: Option<i16>,
    /// Not before; at most 30 days ahead.
    run_at: Option<DateTime<Utc>>,
    /// While an execution of the job with this key waits or runs, that one is the answer.
    #[oai(validator(min_length = 1, max_length = 128))]
    deduplication_key: Option<String>,
    /// What the job's `keyConcurrency` counts by.
    #[oai(validator(min_length = 1, max_length = 128))]
    concurrency_key: Option<String>,
}

/// Executions that are asked for together.
#[derive(Object)]
pub struct ExecutionBatch {
    /// 1 to 10,000, in a body of at most a megabyte: of so many each may have about a hundred bytes.
    #[oai(validator(min_items = 1, max_items = 10000))]
    items: Vec<ExecutionBatchItem>,
}

/// An execution in short; `GET /api/v1/executions/{id}` has the whole.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionSummary {
    /// Its id.
    id: Uuid,
    /// The job.
    job_id: Uuid,
    status: ExecutionStatus,
    /// Whether it was there already: one with the same deduplication key waits or runs.
    duplicate: bool,
    /// When it was to run first.
    scheduled_for: DateTime<Utc>,
    /// When it was committed.
    created_at: DateTime<Utc>,
}

/// What became of a batch, in its order.
#[derive(Object)]
pub struct ExecutionBatched {
    /// One for each item.
    items: Vec<ExecutionSummary>,
}

/// Which executions are to be cancelled: all fields that are given must fit, and one is. `status` is `PENDING` or `RUNNING`.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionCancelFilter {
    /// Only of this job.
    job_id: Option<Uuid>,
    status: Option<ExecutionStatus>,
    /// Only those created at this time or later.
    from: Option<DateTime<Utc>>,
    /// Only those created before this time.
    to: Option<DateTime<Utc>>,
}

/// Which executions are to begin again: all fields that are given must fit, and one is. `status` is `FAILED`, `TIMEOUT` or
/// `CANCELLED`.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionRetryFilter {
    /// Only of this job.
    job_id: Option<Uuid>,
    status: Option<ExecutionStatus>,
    /// Only dead letters, or only others.
    dead_letter: Option<bool>,
    /// Only those created at this time or later.
    from: Option<DateTime<Utc>>,
    /// Only those created before this time.
    to: Option<DateTime<Utc>>,
}

/// What became of many executions.
#[derive(Object)]
pub struct ExecutionsChanged {
    /// How many changed; 10,000 at most.
    count: u64,
    /// Whether there are more of them: ask again.
    more: bool,
}

/// The data of an event `log`: lines that follow each other. The event's id is the place of the last of them, such as `2-17`.
#[derive(Object)]
pub struct LogLines {
    /// The attempt that logged them.
    attempt: i32,
    /// The number of the first line in the attempt, from 0.
    first: i64,
    /// The lines.
    lines: Vec<String>,
}

impl Documented for domain::execution::ExecutionStatus {
    type Schema = ExecutionStatus;
}

impl Documented for message::Execution {
    type Schema = Execution;
}

impl Documented for Started {
    type Schema = ExecutionStarted;
}

impl Documented for message::ExecutionPage {
    type Schema = ExecutionPage;
}

impl Documented for message::ExecutionBatch {
    type Schema = ExecutionBatch;
}

impl Documented for message::ExecutionBatched {
    type Schema = ExecutionBatched;
}

impl Documented for message::ExecutionCancelMany {
    type Schema = ExecutionCancelFilter;
}

impl Documented for message::ExecutionRetryMany {
    type Schema = ExecutionRetryFilter;
}

impl Documented for message::ExecutionsChanged {
    type Schema = ExecutionsChanged;
}

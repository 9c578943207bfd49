//! Calls about jobs, which the scheduler answers.

use domain::{JobId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::execution::Execution;
use crate::merge::{Edit, given};

/// The service's name on the bus.
pub const SERVICE: &str = "scheduler";

/// How many may begin in one period, counted from the first that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// So many.
    pub max: i32,
    /// The period, in milliseconds.
    pub per_ms: i64,
}

/// A job: a handler, and how it is to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its name, which no other job of the organisation has.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// The module whose handler it is; `null` for `builtin/…`.
    #[serde(default)]
    pub module_id: Option<uuid::Uuid>,
    /// What runs, such as `builtin/noop`.
    pub handler: String,
    /// What the handler is given.
    pub config: Map<String, Value>,
    /// Whether it may be executed.
    pub enabled: bool,
    /// Whether what waits is held back.
    pub paused: bool,
    /// The pool of workers that runs it.
    pub pool: String,
    /// Its place within the organisation: the highest first.
    pub priority: i16,
    /// How long an attempt may take, in milliseconds.
    pub timeout: i64,
    /// How often a failed attempt is followed by another.
    pub retries: i16,
    /// The time before the first of those, in milliseconds; doubled for each that follows.
    pub backoff: i64,
    /// The most that run at once; as many as there are workers for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// The most that run at once with the same concurrency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_concurrency: Option<i32>,
    /// The most that begin in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// `job.create`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCreate {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What runs.
    pub handler: String,
    /// What the handler is given.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Whether it may be executed; yes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The pool of workers; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its place within the organisation, from -100 to 100; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// How long an attempt may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// How often a failed attempt is followed by another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i16>,
    /// The time before the first of those, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<i64>,
    /// The most that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// The most that run at once with the same concurrency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_concurrency: Option<i32>,
    /// The most that begin in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The caller's `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// `job.edit`: a merge patch (RFC 7396). What is absent stays, `null` sets the default, or no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEdit {
    /// The job.
    pub job_id: JobId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub description: Edit<String>,
    /// What runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// What the handler is given: replaced as a whole.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub config: Edit<Map<String, Value>>,
    /// Whether it may be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether what waits is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// The pool of workers, of what is asked for from now on.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub pool: Edit<String>,
    /// Its place within the organisation, of what is asked for from now on.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub priority: Edit<i16>,
    /// How long an attempt may take, in milliseconds, of attempts that begin from now on.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub timeout: Edit<i64>,
    /// How often a failed attempt is followed by another.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub retries: Edit<i16>,
    /// The time before the first of those, in milliseconds.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub backoff: Edit<i64>,
    /// The most that run at once.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub concurrency: Edit<i32>,
    /// The most that run at once with the same concurrency key.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub key_concurrency: Edit<i32>,
    /// The most that begin in a period.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub rate: Edit<Rate>,
}

/// `job.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobGet {
    /// The job.
    pub job_id: JobId,
}

/// `job.list`: by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobList {
    /// Only those that are enabled, or are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobPage {
    /// The jobs.
    pub items: Vec<Job>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `job.delete`: what waits of it is cancelled, what runs is asked to stop; what has ended stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDelete {
    /// The job.
    pub job_id: JobId,
}

/// Nothing but that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDeleted {}

/// `job.execute`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobExecute {
    /// The job.
    pub job_id: JobId,
    /// How.
    #[serde(flatten)]
    pub order: Order,
    /// The caller's `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// How an execution is to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Replaces fields of the job's configuration, those of the first level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Instead of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Not before; at most 30 days ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// While an execution of the job with this key waits or runs, that one is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication_key: Option<String>,
    /// What the job's `keyConcurrency` counts by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
}

/// `settings.get`: what is said of the organisation's executions as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsGet {}

/// What is said of the organisation's executions as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Whether all that waits is held back.
    pub paused: bool,
    /// The most that run at once; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// Its share beside other organisations that wait, from 1 to 100. The platform's administrators say it.
    pub weight: i16,
}

/// `settings.edit`: a merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsEdit {
    /// Whether all that waits is held back.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub paused: Option<bool>,
    /// The most that run at once.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub concurrency: Edit<i32>,
    /// Its share; needs `platform:admin`.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub weight: Option<i16>,
}

crate::call!(JobCreate => Job: "scheduler", "job", "create", Gateway, idempotent: false);
crate::call!(JobGet => Job: "scheduler", "job", "get", Gateway, idempotent: true);
crate::call!(JobList => JobPage: "scheduler", "job", "list", Gateway, idempotent: true);
crate::call!(JobEdit => Job: "scheduler", "job", "edit", Gateway, idempotent: true);
crate::call!(JobDelete => JobDeleted: "scheduler", "job", "delete", Gateway, idempotent: true);
crate::call!(JobExecute => Execution: "scheduler", "job", "execute", Gateway, idempotent: false);
crate::call!(SettingsGet => Settings: "scheduler", "settings", "get", Gateway, idempotent: true);
crate::call!(SettingsEdit => Settings: "scheduler", "settings", "edit", Gateway, idempotent: true);

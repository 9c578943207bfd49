//! Executions as they are shown: wherever a row lies, in one form.

use chrono::{DateTime, Utc};
use contract::execution::{Execution, ExecutionSummary, RunAs};
use database::{DatabaseError, Tx};
use domain::execution::ExecutionStatus;
use domain::{ExecutionId, OrgId};
use serde_json::Value;
use uuid::Uuid;

use crate::error::SchedulerError;

/// Looked up id by id, what has ended in its own partition: by all the ids at once, a plan for any ids reads whatever lies between
/// them. Each is the first from here to here: no index but the primary key serves such an order, however empty the table was. (The
/// first from `(org_id, id)` on would be sought from the organisation's first on, since its policy asks for that, too.)
///
/// `$3` and `$4` are the least and the greatest of the ids: a partition that parameters rule out is not even begun, one that
/// only `sought` rules out is.
const ROWS: &str = "
    SELECT id, job_id, 'PENDING'::text AS status, attempt, principal_kind, principal_id, priority, override,
        deduplication_key, key, scheduled_for, created_at, run_at, NULL::timestamptz AS started_at,
        NULL::timestamptz AS ended_at, NULL::jsonb AS result, NULL::jsonb AS error, NULL::jsonb AS progress, attempts,
        false AS dead_letter, false AS cancel_requested
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.waiting WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought ORDER BY id LIMIT 1
    ) AS waiting
    UNION ALL
    SELECT id, job_id, 'RUNNING', attempt, principal_kind, principal_id, priority, override, deduplication_key, key,
        scheduled_for, created_at, NULL, started_at, NULL, NULL, NULL, progress, attempts, false,
        cancel_requested_at IS NOT NULL
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.running WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought ORDER BY id LIMIT 1
    ) AS running
    UNION ALL
    SELECT id, job_id, status, attempt, principal_kind, principal_id, priority, override, deduplication_key, key,
        scheduled_for, created_at, NULL, started_at, ended_at, result, error, NULL, attempts, dead_letter, false
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.ended
        WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought AND id BETWEEN $3 AND $4 ORDER BY id LIMIT 1
    ) AS ended";

const SUMMARIES: &str = "
    SELECT id, job_id, 'PENDING'::text AS status, scheduled_for, created_at
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.waiting WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought ORDER BY id LIMIT 1
    ) AS waiting
    UNION ALL
    SELECT id, job_id, 'RUNNING', scheduled_for, created_at
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.running WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought ORDER BY id LIMIT 1
    ) AS running
    UNION ALL
    SELECT id, job_id, status, scheduled_for, created_at
    FROM (SELECT DISTINCT unnest($2::uuid[]) AS sought) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM scheduler.ended
        WHERE org_id = $1 AND id BETWEEN wanted.sought AND wanted.sought AND id BETWEEN $3 AND $4 ORDER BY id LIMIT 1
    ) AS ended";

/// An execution, wherever it lies.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct ExecutionRow {
    pub id: Uuid,
    pub job_id: Uuid,
    /// `PENDING` of what waits, `RUNNING` of what runs.
    pub status: String,
    pub attempt: i32,
    pub principal_kind: String,
    pub principal_id: Uuid,
    pub priority: i16,
    /// The column `override`, which is a word of the language.
    #[sqlx(rename = "override")]
    pub replaced: Option<Value>,
    pub deduplication_key: Option<String>,
    pub key: String,
    pub scheduled_for: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    /// While it waits.
    pub run_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub result: Option<Value>,
    pub error: Option<Value>,
    pub progress: Option<Value>,
    pub attempts: Option<Value>,
    pub dead_letter: bool,
    pub cancel_requested: bool,
}

/// Of an execution what a batch is answered with.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct SummaryRow {
    pub id: Uuid,
    pub job_id: Uuid,
    pub status: String,
    pub scheduled_for: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// A column that holds what no service wrote.
fn unreadable(column: &str, error: &dyn std::fmt::Display) -> SchedulerError {
    SchedulerError::Bug(format!("scheduler: {column} of an execution: {error}"))
}

fn read<T: serde::de::DeserializeOwned>(column: &str, value: Value) -> Result<T, SchedulerError> {
    serde_json::from_value(value).map_err(|error| unreadable(column, &error))
}

fn status(text: &str) -> Result<ExecutionStatus, SchedulerError> {
    let status: Result<ExecutionStatus, String> = text.parse();
    status.map_err(|error| unreadable("status", &error))
}

impl ExecutionRow {
    /// As users see it, without its log.
    ///
    /// # Errors
    /// [`SchedulerError::Bug`] when a column holds what no service wrote.
    pub fn view(self) -> Result<Execution, SchedulerError> {
        let took = |(started, ended): (DateTime<Utc>, DateTime<Utc>)| {
            ended
                .signed_duration_since(started)
                .num_milliseconds()
                .max(0)
        };
        Ok(Execution {
            id: self.id.into(),
            job_id: self.job_id.into(),
            status: status(&self.status)?,
            attempt: self.attempt,
            run_as: RunAs {
                kind: read("principal_kind", Value::String(self.principal_kind))?,
                id: self.principal_id,
            },
            priority: self.priority,
            config: self
                .replaced
                .map(|replaced| read("override", replaced))
                .transpose()?,
            deduplication_key: self.deduplication_key,
            concurrency_key: Some(self.key).filter(|key| !key.is_empty()),
            scheduled_for: self.scheduled_for.into(),
            created_at: self.created_at.into(),
            run_at: self.run_at.map(Into::into),
            started_at: self.started_at.map(Into::into),
            completed_at: self.ended_at.map(Into::into),
            duration: self.started_at.zip(self.ended_at).map(took),
            result: self.result,
            error: self.error.map(|error| read("error", error)).transpose()?,
            progress: self.progress,
            attempts: self
                .attempts
                .map(|attempts| read("attempts", attempts))
                .transpose()?
                .unwrap_or_default(),
            dead_letter: self.dead_letter,
            cancel_requested: self.cancel_requested,
            duplicate: false,
            logs: None,
            logs_truncated: None,
        })
    }

    /// About how many bytes of JSON it becomes.
    #[must_use]
    pub fn length(&self) -> usize {
        let large = [
            &self.replaced,
            &self.result,
            &self.error,
            &self.progress,
            &self.attempts,
        ];
        let text = |value: &&Option<Value>| value.as_ref().map_or(0, |json| json.to_string().len());
        500 + large.iter().map(text).sum::<usize>()
    }
}

impl SummaryRow {
    /// As users see it.
    ///
    /// # Errors
    /// [`SchedulerError::Bug`] when a column holds what no service wrote.
    pub fn view(&self, duplicate: bool) -> Result<ExecutionSummary, SchedulerError> {
        Ok(ExecutionSummary {
            id: self.id.into(),
            job_id: self.job_id.into(),
            status: status(&self.status)?,
            duplicate,
            scheduled_for: self.scheduled_for.into(),
            created_at: self.created_at.into(),
        })
    }
}

/// The least and the greatest.
fn ends(ids: &[Uuid]) -> (Uuid, Uuid) {
    let least = ids.iter().min().copied().unwrap_or_default();
    (least, ids.iter().max().copied().unwrap_or_default())
}

/// These executions as they are now, in no particular order.
///
/// # Errors
/// [`DatabaseError`].
pub async fn executions_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    ids: &[Uuid],
) -> Result<Vec<ExecutionRow>, DatabaseError> {
    let (least, greatest) = ends(ids);
    Ok(sqlx::query_as(ROWS)
        .bind(org.0)
        .bind(ids)
        .bind(least)
        .bind(greatest)
        .fetch_all(&mut **tx)
        .await?)
}

/// An execution as it is now.
///
/// # Errors
/// [`DatabaseError`].
pub async fn execution_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    id: ExecutionId,
) -> Result<Option<ExecutionRow>, DatabaseError> {
    Ok(executions_get_in_tx(tx, org, &[id.0]).await?.pop())
}

/// These executions in short, in no particular order.
///
/// # Errors
/// [`DatabaseError`].
pub async fn summaries_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    ids: &[Uuid],
) -> Result<Vec<SummaryRow>, DatabaseError> {
    let (least, greatest) = ends(ids);
    Ok(sqlx::query_as(SUMMARIES)
        .bind(org.0)
        .bind(ids)
        .bind(least)
        .bind(greatest)
        .fetch_all(&mut **tx)
        .await?)
}

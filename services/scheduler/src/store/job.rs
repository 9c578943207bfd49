//! Jobs of one organisation, in its tenant transaction.

use chrono::{DateTime, Utc};
use contract::job::{Job, Rate};
use database::{DatabaseError, Tx};
use domain::{JobId, OrgId};
use serde_json::Value;
use uuid::Uuid;

use crate::error::SchedulerError;

/// One at a time makes jobs of an organisation, so that there are never more of them than there may be.
const TURN: &str =
    "SELECT pg_advisory_xact_lock(hashtext('scheduler.jobs'), hashtext($1::uuid::text))";

const COUNT: &str = "SELECT count(*) FROM scheduler.jobs WHERE org_id = $1";

// An organisation has its row from its first job on: it is what a limit of all its jobs is held by.
const TENANT: &str = "
    INSERT INTO scheduler.tenants (org_id) VALUES ($1) ON CONFLICT ON CONSTRAINT tenants_pkey DO NOTHING";

const INSERT: &str = "
    INSERT INTO scheduler.jobs (org_id, id, name, description, module_id, handler, config, enabled, paused_at, pool,
        priority, timeout_ms, retries, backoff_ms, concurrency, key_concurrency, rate_max, rate_per_ms, version,
        created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";

const UPDATE: &str = "
    UPDATE scheduler.jobs SET name = $3, description = $4, module_id = $5, handler = $6, config = $7, enabled = $8,
        paused_at = $9, pool = $10, priority = $11, timeout_ms = $12, retries = $13, backoff_ms = $14, concurrency = $15,
        key_concurrency = $16, rate_max = $17, rate_per_ms = $18, version = $19, created_at = $20, updated_at = $21
    WHERE org_id = $1 AND id = $2";

const GET: &str = "SELECT * FROM scheduler.jobs WHERE org_id = $1 AND id = $2";

/// Nobody else changes the job until the commit. Who asks for executions goes on: a foreign key's lock is a weaker one.
const LOCK: &str = "SELECT * FROM scheduler.jobs WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE";

/// Nobody asks for executions of the job until the commit, nor begins one.
const LOCK_WHOLE: &str = "SELECT * FROM scheduler.jobs WHERE org_id = $1 AND id = $2 FOR UPDATE";

const LIST: &str = "
    SELECT * FROM scheduler.jobs WHERE org_id = $1 AND name > $2 AND ($4::boolean IS NULL OR enabled = $4)
    ORDER BY name LIMIT $3";

const DELETE: &str = "DELETE FROM scheduler.jobs WHERE org_id = $1 AND id = $2";

/// Whatever still runs of a job that is gone is counted nowhere any more.
const DELETE_LIMITS: &str = "DELETE FROM scheduler.limits WHERE org_id = $1 AND job_id = $2";

/// A row of `scheduler.jobs`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct JobRow {
    pub id: Uuid,
    pub name: String,
    pub description: String,
    pub module_id: Option<Uuid>,
    pub handler: String,
    pub config: Value,
    pub enabled: bool,
    pub paused_at: Option<DateTime<Utc>>,
    pub pool: String,
    pub priority: i16,
    pub timeout_ms: i64,
    pub retries: i16,
    pub backoff_ms: i64,
    pub concurrency: Option<i32>,
    pub key_concurrency: Option<i32>,
    pub rate_max: Option<i32>,
    pub rate_per_ms: Option<i64>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl JobRow {
    /// As users see it.
    ///
    /// # Errors
    /// [`SchedulerError::Bug`] when a column holds what no service wrote.
    pub fn view(self) -> Result<Job, SchedulerError> {
        let Value::Object(config) = self.config else {
            let text = "scheduler.jobs.config: is no object";
            return Err(SchedulerError::Bug(text.into()));
        };
        let rate = self.rate_max.zip(self.rate_per_ms);
        Ok(Job {
            id: self.id.into(),
            name: self.name,
            description: self.description,
            module_id: self.module_id,
            handler: self.handler,
            config,
            enabled: self.enabled,
            paused: self.paused_at.is_some(),
            pool: self.pool,
            priority: self.priority,
            timeout: self.timeout_ms,
            retries: self.retries,
            backoff: self.backoff_ms,
            concurrency: self.concurrency,
            key_concurrency: self.key_concurrency,
            rate: rate.map(|(max, per_ms)| Rate { max, per_ms }),
            created_at: self.created_at.into(),
            updated_at: self.updated_at.into(),
        })
    }

    /// How many may run at once, or begin in a time: what `limits` has rows for.
    #[must_use]
    pub fn limits(&self) -> [Option<i64>; 4] {
        [
            self.concurrency.map(i64::from),
            self.key_concurrency.map(i64::from),
            self.rate_max.map(i64::from),
            self.rate_per_ms,
        ]
    }
}

/// How many jobs the organisation has. Nobody makes another before the commit.
///
/// # Errors
/// [`DatabaseError`].
pub async fn jobs_count_in_tx(tx: &mut Tx, org: OrgId) -> Result<i64, DatabaseError> {
    sqlx::query(TURN).bind(org.0).execute(&mut **tx).await?;
    Ok(sqlx::query_scalar(COUNT)
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?)
}

/// Writes a job that is new.
///
/// # Errors
/// [`DatabaseError`]; of the constraint `jobs_name_key` when another has its name.
pub async fn job_insert_in_tx(tx: &mut Tx, org: OrgId, job: &JobRow) -> Result<(), DatabaseError> {
    sqlx::query(TENANT).bind(org.0).execute(&mut **tx).await?;
    write_in_tx(INSERT, tx, org, job).await
}

/// Writes a job whose row is locked.
///
/// # Errors
/// As [`job_insert_in_tx`].
pub async fn job_update_in_tx(tx: &mut Tx, org: OrgId, job: &JobRow) -> Result<(), DatabaseError> {
    write_in_tx(UPDATE, tx, org, job).await
}

async fn write_in_tx(
    sql: &'static str,
    tx: &mut Tx,
    org: OrgId,
    job: &JobRow,
) -> Result<(), DatabaseError> {
    sqlx::query(sql)
        .bind(org.0)
        .bind(job.id)
        .bind(&job.name)
        .bind(&job.description)
        .bind(job.module_id)
        .bind(&job.handler)
        .bind(&job.config)
        .bind(job.enabled)
        .bind(job.paused_at)
        .bind(&job.pool)
        .bind(job.priority)
        .bind(job.timeout_ms)
        .bind(job.retries)
        .bind(job.backoff_ms)
        .bind(job.concurrency)
        .bind(job.key_concurrency)
        .bind(job.rate_max)
        .bind(job.rate_per_ms)
        .bind(job.version)
        .bind(job.created_at)
        .bind(job.updated_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A job.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
) -> Result<Option<JobRow>, DatabaseError> {
    Ok(sqlx::query_as(GET)
        .bind(org.0)
        .bind(job.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// A job that nobody else changes before the commit.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_lock_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
) -> Result<Option<JobRow>, DatabaseError> {
    Ok(sqlx::query_as(LOCK)
        .bind(org.0)
        .bind(job.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// From now on to the commit nothing is added to what waits of a job, and nothing of it begins: who tries stands still. `None` when the
/// organisation has no such job.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_close_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
) -> Result<Option<JobRow>, DatabaseError> {
    Ok(sqlx::query_as(LOCK_WHOLE)
        .bind(org.0)
        .bind(job.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Jobs by name, those after `after`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_list_in_tx(
    tx: &mut Tx,
    org: OrgId,
    after: &str,
    enabled: Option<bool>,
    limit: i64,
) -> Result<Vec<JobRow>, DatabaseError> {
    Ok(sqlx::query_as(LIST)
        .bind(org.0)
        .bind(after)
        .bind(limit)
        .bind(enabled)
        .fetch_all(&mut **tx)
        .await?)
}

/// Removes a job of which nothing waits, and its limits.
///
/// # Errors
/// [`DatabaseError`]; of the constraint `waiting_job` when something waits.
pub async fn job_delete_in_tx(tx: &mut Tx, org: OrgId, job: JobId) -> Result<(), DatabaseError> {
    sqlx::query(DELETE_LIMITS)
        .bind(org.0)
        .bind(job.0)
        .execute(&mut **tx)
        .await?;
    sqlx::query(DELETE)
        .bind(org.0)
        .bind(job.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

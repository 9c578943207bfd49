//! Executions that somebody asks for: into `waiting`, one or many by the same statements.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};
use domain::OrgId;
use serde_json::Value;
use uuid::Uuid;

use crate::store::execution::ExecutionRow;

/// The jobs stay until the commit. A foreign key takes the same lock; taken here, nobody finds out too late that a job is gone.
/// In the order of ids, so that two requests cannot wait for each other. (One probe for each, here and below: of an array a plan that
/// was made while there were no jobs reads all that the organisation has.)
const JOBS_STAY: &str = "
    SELECT job.* FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS given (id) ORDER BY id) AS wanted CROSS JOIN LATERAL (
        SELECT id, name, handler, enabled, pool, priority, key_concurrency FROM scheduler.jobs
        WHERE org_id = $1 AND id = wanted.id LIMIT 1 FOR KEY SHARE
    ) AS job ORDER BY job.id";

/// Besides, nobody changes them: who sets a limit for each key must see the keys of what waits, and those of this transaction.
const JOBS_STAY_AS_THEY_ARE: &str = "
    SELECT job.* FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS given (id) ORDER BY id) AS wanted CROSS JOIN LATERAL (
        SELECT id, name, handler, enabled, pool, priority, key_concurrency FROM scheduler.jobs
        WHERE org_id = $1 AND id = wanted.id LIMIT 1 FOR SHARE
    ) AS job ORDER BY job.id";

const JOB_CONFIGS: &str = "
    SELECT job.* FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS given (id) ORDER BY id) AS wanted CROSS JOIN LATERAL (
        SELECT id, handler, config FROM scheduler.jobs WHERE org_id = $1 AND id = wanted.id LIMIT 1
    ) AS job ORDER BY job.id";

/// In the order of keys, so that two requests cannot wait for each other; of several with one key the oldest gets it.
const KEYS_TAKE: &str = "
    INSERT INTO scheduler.deduplications (org_id, job_id, key, execution_id)
    SELECT $1, job_id, key, id FROM unnest($2::uuid[], $3::text[], $4::uuid[]) AS given (job_id, key, id)
    ORDER BY job_id, key, id
    ON CONFLICT ON CONSTRAINT deduplications_pkey DO NOTHING
    RETURNING execution_id";

const KEYS_GET: &str = "
    SELECT taken.job_id, taken.key, taken.execution_id
    FROM unnest($2::uuid[], $3::text[]) AS given (job_id, key) CROSS JOIN LATERAL (
        SELECT * FROM scheduler.deduplications AS taken
        WHERE taken.org_id = $1 AND taken.job_id = given.job_id AND taken.key = given.key LIMIT 1
    ) AS taken";

const KEYS_FREE: &str = "
    DELETE FROM scheduler.deduplications AS taken USING (
        SELECT held.tid FROM unnest($2::uuid[], $3::text[], $4::uuid[]) AS given (job_id, key, id) CROSS JOIN LATERAL (
            SELECT taken.ctid AS tid FROM scheduler.deduplications AS taken
            WHERE taken.org_id = $1 AND taken.job_id = given.job_id AND taken.key = given.key
                AND taken.execution_id = given.id LIMIT 1
        ) AS held
    ) AS held
    WHERE taken.ctid = held.tid";

const INSERT: &str = "
    INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, override, deduplication_key,
        principal_kind, principal_id, credential, traceparent, scheduled_for, created_at)
    SELECT $1, id, job_id, pool, key, priority, coalesce(run_at <= now(), true), coalesce(run_at, now()), override,
        deduplication_key, $11, $12, $13, $14, coalesce(run_at, now()), created_at
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::jsonb[], $9::text[],
        $10::timestamptz[])
        AS new (id, job_id, pool, key, priority, run_at, override, deduplication_key, created_at)
    RETURNING id, job_id, 'PENDING'::text AS status, attempt, principal_kind, principal_id, priority, override,
        deduplication_key, key, scheduled_for, created_at, run_at, NULL::timestamptz AS started_at,
        NULL::timestamptz AS ended_at, NULL::jsonb AS result, NULL::jsonb AS error, NULL::jsonb AS progress, attempts,
        false AS dead_letter, false AS cancel_requested, pool, due";

/// Of a job what is needed to make executions of it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct JobHead {
    pub id: Uuid,
    pub name: String,
    pub handler: String,
    pub enabled: bool,
    pub pool: String,
    pub priority: i16,
    pub key_concurrency: Option<i32>,
}

/// What a job's handler is given.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct JobConfig {
    /// The job.
    pub id: Uuid,
    /// The handler.
    pub handler: String,
    /// The configuration, an object.
    pub config: Value,
}

/// A deduplication key, and the execution that has it or wants it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Deduplication {
    /// The job.
    pub job_id: Uuid,
    /// The key.
    pub key: String,
    /// The execution.
    pub execution_id: Uuid,
}

/// An execution to be made.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct NewExecution<'a> {
    pub id: Uuid,
    pub job_id: Uuid,
    pub pool: &'a str,
    /// The concurrency key; empty without one.
    pub key: &'a str,
    pub priority: i16,
    /// Not before; at once when absent.
    pub run_at: Option<DateTime<Utc>>,
    pub replaced: Option<&'a Value>,
    pub deduplication_key: Option<&'a str>,
    pub created_at: DateTime<Utc>,
}

/// On whose behalf.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Asker {
    pub kind: &'static str,
    pub id: Uuid,
    pub credential: Uuid,
    pub traceparent: Option<String>,
}

/// An execution that was made.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Enqueued {
    /// Its row.
    #[sqlx(flatten)]
    pub row: ExecutionRow,
    /// The pool of its workers.
    pub pool: String,
    /// Whether it waits only for a worker.
    pub due: bool,
}

/// These jobs, as far as the organisation has them: they stay until the commit, and `as_they_are` if that matters.
///
/// # Errors
/// [`DatabaseError`].
pub async fn jobs_share_in_tx(
    tx: &mut Tx,
    org: OrgId,
    jobs: &[Uuid],
    as_they_are: bool,
) -> Result<Vec<JobHead>, DatabaseError> {
    let sql = if as_they_are {
        JOBS_STAY_AS_THEY_ARE
    } else {
        JOBS_STAY
    };
    Ok(sqlx::query_as(sql)
        .bind(org.0)
        .bind(jobs)
        .fetch_all(&mut **tx)
        .await?)
}

/// What the handlers of these jobs are given, as far as the organisation has them.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_configs_in_tx(
    tx: &mut Tx,
    org: OrgId,
    jobs: &[Uuid],
) -> Result<Vec<JobConfig>, DatabaseError> {
    Ok(sqlx::query_as(JOB_CONFIGS)
        .bind(org.0)
        .bind(jobs)
        .fetch_all(&mut **tx)
        .await?)
}

fn columns(keys: &[Deduplication]) -> (Vec<Uuid>, Vec<&str>, Vec<Uuid>) {
    (
        keys.iter().map(|key| key.job_id).collect(),
        keys.iter().map(|key| &*key.key).collect(),
        keys.iter().map(|key| key.execution_id).collect(),
    )
}

/// Takes deduplication keys; gives the executions that got theirs. Who holds one in an open transaction is waited for.
///
/// # Errors
/// [`DatabaseError`].
pub async fn keys_take_in_tx(
    tx: &mut Tx,
    org: OrgId,
    keys: &[Deduplication],
) -> Result<Vec<Uuid>, DatabaseError> {
    let (jobs, texts, executions) = columns(keys);
    Ok(sqlx::query_scalar(KEYS_TAKE)
        .bind(org.0)
        .bind(jobs)
        .bind(texts)
        .bind(executions)
        .fetch_all(&mut **tx)
        .await?)
}

/// Who has these deduplication keys, of those that somebody has.
///
/// # Errors
/// [`DatabaseError`].
pub async fn keys_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    keys: &[Deduplication],
) -> Result<Vec<Deduplication>, DatabaseError> {
    let (jobs, texts, _) = columns(keys);
    Ok(sqlx::query_as(KEYS_GET)
        .bind(org.0)
        .bind(jobs)
        .bind(texts)
        .fetch_all(&mut **tx)
        .await?)
}

/// Gives back deduplication keys of these executions.
///
/// # Errors
/// [`DatabaseError`].
pub async fn keys_free_in_tx(
    tx: &mut Tx,
    org: OrgId,
    keys: &[Deduplication],
) -> Result<(), DatabaseError> {
    let (jobs, texts, executions) = columns(keys);
    sqlx::query(KEYS_FREE)
        .bind(org.0)
        .bind(jobs)
        .bind(texts)
        .bind(executions)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes executions, all of them or none; those without a time of their own are due now.
///
/// # Errors
/// [`DatabaseError`]; a collision leaves nothing behind, and the same can be run again.
pub async fn executions_insert_in_tx(
    tx: &mut Tx,
    org: OrgId,
    new: &[NewExecution<'_>],
    asker: &Asker,
) -> Result<Vec<Enqueued>, DatabaseError> {
    Ok(sqlx::query_as(INSERT)
        .bind(org.0)
        .bind(new.iter().map(|new| new.id).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.job_id).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.pool).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.key).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.priority).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.run_at).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.replaced).collect::<Vec<_>>())
        .bind(
            new.iter()
                .map(|new| new.deduplication_key)
                .collect::<Vec<_>>(),
        )
        .bind(new.iter().map(|new| new.created_at).collect::<Vec<_>>())
        .bind(asker.kind)
        .bind(asker.id)
        .bind(asker.credential)
        .bind(asker.traceparent.as_deref())
        .fetch_all(&mut **tx)
        .await?)
}

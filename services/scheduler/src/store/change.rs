//! Cancelling executions, and beginning them again: of one or of many by the same statements.

use database::{DatabaseError, Tx};
use domain::execution::ATTEMPTS_KEPT;
use domain::{ExecutionId, JobId, OrgId};
use uuid::Uuid;

use crate::store::enqueue::Asker;
use crate::store::page::Wanted;

/// What has not ended and was not asked to stop, the oldest first.
const OPEN: &str = "
    SELECT id FROM (
        (SELECT id FROM scheduler.waiting
            WHERE org_id = $1 AND $5::boolean AND id >= $2 AND id < $3 ORDER BY id LIMIT $4)
        UNION ALL
        (SELECT id FROM scheduler.running
            WHERE org_id = $1 AND $6::boolean AND id >= $2 AND id < $3 AND cancel_requested_at IS NULL ORDER BY id LIMIT $4)
    ) AS open
    ORDER BY id LIMIT $4";

const OPEN_OF_JOB: &str = "
    SELECT id FROM (
        (SELECT id FROM scheduler.waiting
            WHERE org_id = $1 AND job_id = $7 AND $5::boolean AND id >= $2 AND id < $3 ORDER BY id LIMIT $4)
        UNION ALL
        (SELECT id FROM scheduler.running
            WHERE org_id = $1 AND job_id = $7 AND $6::boolean AND id >= $2 AND id < $3 AND cancel_requested_at IS NULL
            ORDER BY id LIMIT $4)
    ) AS open
    ORDER BY id LIMIT $4";

/// What waits ends here and now; its deduplication key is free again, and its event is in the outbox. Each is looked up by itself
/// and deleted by its place: an array of ids may be sought for in all that the organisation has. (One from here to here, in this
/// order: no index but the primary key serves that, however empty the table was.) One that changed meanwhile stays.
const CANCEL: &str = "
    WITH found AS MATERIALIZED (
        SELECT w.tid, w.id FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT w.ctid AS tid, w.id FROM scheduler.waiting AS w
            WHERE w.org_id = $1 AND w.id BETWEEN wanted.id AND wanted.id ORDER BY w.id LIMIT 1
        ) AS w
        WHERE w.id = wanted.id ORDER BY w.id
    ), gone AS (
        DELETE FROM scheduler.waiting AS w USING found WHERE w.ctid = found.tid AND w.id = found.id AND w.org_id = $1
        RETURNING w.*
    ), freed AS (
        DELETE FROM scheduler.deduplications AS taken USING (
            SELECT held.tid FROM gone CROSS JOIN LATERAL (
                SELECT taken.ctid AS tid FROM scheduler.deduplications AS taken
                WHERE taken.org_id = $1 AND taken.job_id = gone.job_id AND taken.key = gone.deduplication_key
                    AND taken.execution_id = gone.id LIMIT 1
            ) AS held
        ) AS held
        WHERE taken.ctid = held.tid
    ), kept AS (
        INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind,
            principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded, failures, losses,
            attempts, token, version, status, ended_at)
        SELECT org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind, principal_id,
            credential, traceparent, scheduled_for, created_at, attempt, concluded, failures, losses, attempts, token,
            version + 1, 'CANCELLED', now()
        FROM gone
        RETURNING id, job_id, attempt, version, ended_at
    ), event AS (
        INSERT INTO scheduler.outbox (id, org_id, noun, verb, subject_id, version, at, data)
        SELECT gen_random_uuid(), $1, 'execution', 'cancelled', id, version, ended_at,
            jsonb_build_object('jobId', job_id, 'status', 'CANCELLED', 'attempt', attempt, 'deadLetter', false)
        FROM kept
    )
    SELECT id FROM kept ORDER BY id";

/// What runs is asked to stop; its worker hears of it with the next lease. One that changed meanwhile is not asked.
const STOP: &str = "
    WITH found AS MATERIALIZED (
        SELECT r.tid, r.id FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT r.ctid AS tid, r.id FROM scheduler.running AS r
            WHERE r.org_id = $1 AND r.id BETWEEN wanted.id AND wanted.id ORDER BY r.id LIMIT 1
        ) AS r
        WHERE r.id = wanted.id ORDER BY r.id
    )
    UPDATE scheduler.running AS r SET cancel_requested_at = now() FROM found
    WHERE r.ctid = found.tid AND r.id = found.id AND r.org_id = $1 AND r.cancel_requested_at IS NULL
    RETURNING r.id";

const STOP_OF_JOB: &str = "
    UPDATE scheduler.running SET cancel_requested_at = now()
    WHERE org_id = $1 AND job_id = $2 AND cancel_requested_at IS NULL
    RETURNING id";

const WAITING_OF_JOB: &str =
    "SELECT id FROM scheduler.waiting WHERE org_id = $1 AND job_id = $2 ORDER BY id LIMIT $3";

const STILL_OPEN: &str = "
    SELECT EXISTS (
        SELECT FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT FROM scheduler.waiting AS w
            WHERE w.org_id = $1 AND w.id BETWEEN wanted.id AND wanted.id ORDER BY w.id LIMIT 1) AS w
    ) OR EXISTS (
        SELECT FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT FROM scheduler.running AS r
            WHERE r.org_id = $1 AND r.id BETWEEN wanted.id AND wanted.id AND r.cancel_requested_at IS NULL
            ORDER BY r.id LIMIT 1) AS r
    )";

const ENDED: &str = "
    SELECT id, job_id, key, deduplication_key, status FROM scheduler.ended
    WHERE org_id = $1 AND id BETWEEN $2 AND $2 ORDER BY id LIMIT 1";

/// What has ended and can begin again, the oldest first: its job is there, enabled and in one of the pools, and its deduplication key is free
/// (one probe for each: joined, all the keys would be walked for each). The inner limit is none: it tells the planner to take rows in
/// the order of an index, one by one, instead of sorting all that failed.
const AGAIN: &str = "
    SELECT oldest.* FROM unnest($5::text[]) AS wanted (status)
    CROSS JOIN LATERAL (
        SELECT ended.* FROM (
            SELECT id, job_id, key, deduplication_key, status FROM scheduler.ended
            WHERE org_id = $1 AND status = wanted.status AND id >= $2 AND id < $3
            ORDER BY id LIMIT (SELECT 2147483647)
        ) AS ended
        CROSS JOIN LATERAL (
            SELECT FROM scheduler.jobs AS job
            WHERE job.org_id = $1 AND job.id = ended.job_id AND job.enabled AND job.pool = ANY ($6) LIMIT 1
        ) AS job
        LEFT JOIN LATERAL (
            SELECT true AS held FROM scheduler.deduplications AS taken WHERE taken.org_id = $1
                AND taken.job_id = ended.job_id AND taken.key = ended.deduplication_key LIMIT 1
        ) AS taken ON true
        WHERE taken.held IS NULL
        ORDER BY ended.id LIMIT $4) AS oldest
    ORDER BY oldest.id LIMIT $4";

const AGAIN_OF_JOB: &str = "
    SELECT oldest.* FROM unnest($5::text[]) AS wanted (status)
    CROSS JOIN LATERAL (
        SELECT ended.* FROM (
            SELECT id, job_id, key, deduplication_key, status FROM scheduler.ended
            WHERE org_id = $1 AND job_id = $7 AND status = wanted.status AND id >= $2 AND id < $3
            ORDER BY id LIMIT (SELECT 2147483647)
        ) AS ended
        CROSS JOIN LATERAL (
            SELECT FROM scheduler.jobs AS job
            WHERE job.org_id = $1 AND job.id = ended.job_id AND job.enabled AND job.pool = ANY ($6) LIMIT 1
        ) AS job
        LEFT JOIN LATERAL (
            SELECT true AS held FROM scheduler.deduplications AS taken WHERE taken.org_id = $1
                AND taken.job_id = ended.job_id AND taken.key = ended.deduplication_key LIMIT 1
        ) AS taken ON true
        WHERE taken.held IS NULL
        ORDER BY ended.id LIMIT $4) AS oldest
    ORDER BY oldest.id LIMIT $4";

/// Back to `waiting`, due now, in the pool that the job has now, with all its retries before it, and on behalf of whoever asks for
/// this (`$5` to `$8`): who asked before may have had rights that this one has not. The attempt that ended is the last of those
/// before, unless it was cancelled while it waited. `$3` are jobs whose rows stay until the commit. Each is looked up by itself,
/// in its own partition, and deleted by its place there. (Which of them may begin again is asked in the deletion: so the planner
/// takes them for few, and does not read a month of them to find them.)
const RETRY: &str = "
    WITH found AS MATERIALIZED (
        SELECT wanted.id, ended.* FROM unnest($2::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT e.ctid AS tid, e.job_id, e.status FROM scheduler.ended AS e
            WHERE e.org_id = $1 AND e.id BETWEEN wanted.id AND wanted.id ORDER BY e.id LIMIT 1
        ) AS ended
    ), gone AS (
        DELETE FROM scheduler.ended AS e USING found
        WHERE found.job_id = ANY ($3) AND found.status IN ('FAILED', 'TIMEOUT', 'CANCELLED')
            AND e.ctid = found.tid AND e.id = found.id AND e.org_id = $1
        RETURNING e.*
    )
    INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, override, deduplication_key,
        principal_kind, principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded, failures, losses,
        attempts, token, version)
    SELECT gone.org_id, gone.id, gone.job_id, job.pool, gone.key, gone.priority, true, now(), gone.override,
        gone.deduplication_key, $5, $6, $7, $8, gone.scheduled_for, gone.created_at, gone.attempt, gone.concluded, 0, 0,
        CASE WHEN gone.started_at IS NULL THEN gone.attempts ELSE (
            SELECT jsonb_agg(latest.entry ORDER BY latest.place) FROM (
                SELECT one.entry, one.place FROM jsonb_array_elements(coalesce(gone.attempts, '[]'::jsonb)
                    || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('attempt', gone.attempt, 'outcome', gone.status,
                        'startedAt', gone.started_at, 'endedAt', gone.ended_at, 'error', gone.error))))
                    WITH ORDINALITY AS one (entry, place)
                ORDER BY one.place DESC LIMIT $4) AS latest) END,
        gone.token, gone.version + 1
    FROM gone CROSS JOIN LATERAL (
        SELECT job.pool FROM scheduler.jobs AS job WHERE job.org_id = $1 AND job.id = gone.job_id LIMIT 1
    ) AS job
    RETURNING id, job_id, key, pool";

/// An execution that has ended.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Ended {
    pub id: Uuid,
    pub job_id: Uuid,
    pub key: String,
    pub deduplication_key: Option<String>,
    pub status: String,
}

/// An execution that waits again, and in which lane.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Again {
    pub id: Uuid,
    pub job_id: Uuid,
    pub key: String,
    pub pool: String,
}

/// The oldest executions that are wanted, of those that wait and those that run and were not asked to stop.
///
/// # Errors
/// [`DatabaseError`].
pub async fn open_find_in_tx(
    tx: &mut Tx,
    org: OrgId,
    wanted: &Wanted,
    limit: i64,
) -> Result<Vec<Uuid>, DatabaseError> {
    let sql = if wanted.job.is_some() {
        OPEN_OF_JOB
    } else {
        OPEN
    };
    let mut query = sqlx::query_scalar(sql)
        .bind(org.0)
        .bind(wanted.from)
        .bind(wanted.below)
        .bind(limit)
        .bind(wanted.waiting)
        .bind(wanted.running);
    if let Some(job) = wanted.job {
        query = query.bind(job.0);
    }
    Ok(query.fetch_all(&mut **tx).await?)
}

/// What waits of a job, the oldest first.
///
/// # Errors
/// [`DatabaseError`].
pub async fn waiting_of_job_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
    limit: i64,
) -> Result<Vec<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(WAITING_OF_JOB)
        .bind(org.0)
        .bind(job.0)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// Ends those of these executions that wait, with their events; says which.
///
/// # Errors
/// [`DatabaseError`].
pub async fn waiting_cancel_in_tx(
    tx: &mut Tx,
    org: OrgId,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(CANCEL)
        .bind(org.0)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?)
}

/// Asks those of these executions to stop that run and were not asked before; says which.
///
/// # Errors
/// [`DatabaseError`].
pub async fn running_stop_in_tx(
    tx: &mut Tx,
    org: OrgId,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(STOP)
        .bind(org.0)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?)
}

/// Asks everything of a job to stop that runs and was not asked before; says what that is.
///
/// # Errors
/// [`DatabaseError`].
pub async fn job_stop_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
) -> Result<Vec<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(STOP_OF_JOB)
        .bind(org.0)
        .bind(job.0)
        .fetch_all(&mut **tx)
        .await?)
}

/// Whether any of these executions waits, or runs and was not asked to stop.
///
/// # Errors
/// [`DatabaseError`].
pub async fn any_open_in_tx(tx: &mut Tx, org: OrgId, ids: &[Uuid]) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(STILL_OPEN)
        .bind(org.0)
        .bind(ids)
        .fetch_one(&mut **tx)
        .await?)
}

/// An execution, if it has ended.
///
/// # Errors
/// [`DatabaseError`].
pub async fn ended_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    id: ExecutionId,
) -> Result<Option<Ended>, DatabaseError> {
    Ok(sqlx::query_as(ENDED)
        .bind(org.0)
        .bind(id.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// The oldest executions that are wanted, of those that have ended and can begin again, in one of these pools.
///
/// # Errors
/// [`DatabaseError`].
pub async fn ended_find_in_tx(
    tx: &mut Tx,
    org: OrgId,
    wanted: &Wanted,
    pools: &[String],
    limit: i64,
) -> Result<Vec<Ended>, DatabaseError> {
    let sql = if wanted.job.is_some() {
        AGAIN_OF_JOB
    } else {
        AGAIN
    };
    let mut query = sqlx::query_as(sql)
        .bind(org.0)
        .bind(wanted.from)
        .bind(wanted.below)
        .bind(limit)
        .bind(&wanted.ended)
        .bind(pools);
    if let Some(job) = wanted.job {
        query = query.bind(job.0);
    }
    Ok(query.fetch_all(&mut **tx).await?)
}

/// Begins those of these executions again, on behalf of `asker`, that ended other than COMPLETED, and whose jobs are among `jobs`,
/// which stay until the commit; says which. Their deduplication keys are taken before.
///
/// # Errors
/// [`DatabaseError`].
pub async fn ended_retry_in_tx(
    tx: &mut Tx,
    org: OrgId,
    ids: &[Uuid],
    jobs: &[Uuid],
    asker: &Asker,
) -> Result<Vec<Again>, DatabaseError> {
    Ok(sqlx::query_as(RETRY)
        .bind(org.0)
        .bind(ids)
        .bind(jobs)
        .bind(ATTEMPTS_KEPT as i64)
        .bind(asker.kind)
        .bind(asker.id)
        .bind(asker.credential)
        .bind(asker.traceparent.as_deref())
        .fetch_all(&mut **tx)
        .await?)
}

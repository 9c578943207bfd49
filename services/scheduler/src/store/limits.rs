//! Counters of what runs, where somebody set a limit. Whoever sets one has changed the job's (or the tenant's) row in the same
//! transaction: nobody claims or finishes meanwhile, so what is counted here is exact.

use contract::work::Lane;
use database::{DatabaseError, Tx};
use domain::{JobId, OrgId};
use sqlx::PgPool;

// Without a rate there is no window, and one that is set begins with a new one: what began before is counted nowhere.
const SET_JOB: &str = "
    INSERT INTO scheduler.limits AS l (org_id, job_id, key, max, running, rate_max, rate_per_ms)
    SELECT j.org_id, j.id, '', j.concurrency,
        (SELECT count(*)::integer FROM scheduler.running AS r WHERE r.org_id = j.org_id AND r.job_id = j.id),
        j.rate_max, j.rate_per_ms
    FROM scheduler.jobs AS j
    WHERE j.org_id = $1 AND j.id = $2 AND (j.concurrency IS NOT NULL OR j.rate_max IS NOT NULL)
    ON CONFLICT ON CONSTRAINT limits_pkey
        DO UPDATE SET max = EXCLUDED.max, rate_max = EXCLUDED.rate_max, rate_per_ms = EXCLUDED.rate_per_ms,
            window_at = CASE WHEN l.rate_max IS NULL OR EXCLUDED.rate_max IS NULL THEN EXCLUDED.window_at ELSE l.window_at END,
            window_count = CASE WHEN l.rate_max IS NULL OR EXCLUDED.rate_max IS NULL THEN 0 ELSE l.window_count END";

const UNSET_JOB: &str = "
    DELETE FROM scheduler.limits AS l USING scheduler.jobs AS j
    WHERE l.org_id = $1 AND l.job_id = $2 AND j.org_id = l.org_id AND j.id = l.job_id
        AND (l.key = '' AND j.concurrency IS NULL AND j.rate_max IS NULL OR l.key <> '' AND j.key_concurrency IS NULL)";

const SET_KEYS: &str = "
    INSERT INTO scheduler.limits (org_id, job_id, key, max, running)
    SELECT j.org_id, j.id, r.key, j.key_concurrency, r.n
    FROM scheduler.jobs AS j JOIN LATERAL (
        SELECT key, count(*)::integer AS n FROM scheduler.running
        WHERE org_id = j.org_id AND job_id = j.id AND key <> '' GROUP BY key
    ) AS r ON true
    WHERE j.org_id = $1 AND j.id = $2 AND j.key_concurrency IS NOT NULL
    ON CONFLICT ON CONSTRAINT limits_pkey DO NOTHING";

const CHANGE_KEYS: &str = "
    UPDATE scheduler.limits AS l SET max = j.key_concurrency FROM scheduler.jobs AS j
    WHERE l.org_id = $1 AND l.job_id = $2 AND l.key <> '' AND j.org_id = l.org_id AND j.id = l.job_id
        AND l.max IS DISTINCT FROM j.key_concurrency";

const SET_TENANT: &str = "
    INSERT INTO scheduler.limits (org_id, job_id, key, max, running)
    SELECT t.org_id, '00000000-0000-0000-0000-000000000000', '', t.concurrency,
        (SELECT count(*)::integer FROM scheduler.running AS r WHERE r.org_id = t.org_id)
    FROM scheduler.tenants AS t WHERE t.org_id = $1 AND t.concurrency IS NOT NULL
    ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET max = EXCLUDED.max";

const UNSET_TENANT: &str = "
    DELETE FROM scheduler.limits AS l USING scheduler.tenants AS t
    WHERE l.org_id = $1 AND l.job_id = '00000000-0000-0000-0000-000000000000' AND t.org_id = l.org_id AND t.concurrency IS NULL";

// Nothing runs with a key that has no row, while its job counts by keys: the claim sees to that. The job stays as it is until the
// commit: else a counter would stay that its job has no use for, and that not everybody counts by. (In the order of keys, one probe for
// each: joined, a plan that was made while there were no jobs reads all of an organisation for each.)
const KEYS: &str = "
    INSERT INTO scheduler.limits (org_id, job_id, key, max)
    SELECT lane.org_id, lane.job_id, lane.key, job.key_concurrency
    FROM (
        SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS given (org_id, job_id, key) ORDER BY org_id, job_id, key
    ) AS lane
    CROSS JOIN LATERAL (
        SELECT j.key_concurrency FROM scheduler.jobs AS j WHERE j.org_id = lane.org_id AND j.id = lane.job_id
        LIMIT 1 FOR SHARE
    ) AS job
    WHERE job.key_concurrency IS NOT NULL AND lane.key <> ''
    ON CONFLICT ON CONSTRAINT limits_pkey DO NOTHING";

// Keys that nobody uses. (All keys that wait are gathered once: no index finds those of one. They are grouped, not joined: a plan
// that was made while there were none would compare each with each.)
const TIDY: &str = "
    WITH idle AS MATERIALIZED (
        SELECT org_id, job_id, key FROM (
            SELECT org_id, job_id, key, false AS waits FROM scheduler.limits WHERE key <> '' AND running = 0
            UNION ALL SELECT org_id, job_id, key, true FROM scheduler.waiting WHERE key <> ''
        ) AS each
        GROUP BY org_id, job_id, key HAVING NOT bool_or(waits)
        ORDER BY org_id, job_id, key LIMIT 1000
    ), held AS MATERIALIZED (
        SELECT l.tid FROM idle CROSS JOIN LATERAL (
            SELECT l.ctid AS tid FROM scheduler.limits AS l
            WHERE l.org_id = idle.org_id AND l.job_id = idle.job_id AND l.key = idle.key AND l.running = 0
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS l
    )
    DELETE FROM scheduler.limits AS l USING held WHERE l.ctid = held.tid AND l.running = 0";

/// Makes a job's counters fit its row.
///
/// # Errors
/// [`DatabaseError`].
pub async fn limits_set_in_tx(tx: &mut Tx, org: OrgId, job: JobId) -> Result<(), DatabaseError> {
    run_in_tx(UNSET_JOB, tx, org, job).await?;
    run_in_tx(SET_JOB, tx, org, job).await?;
    run_in_tx(SET_KEYS, tx, org, job).await?;
    run_in_tx(CHANGE_KEYS, tx, org, job).await
}

async fn run_in_tx(
    sql: &'static str,
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
) -> Result<(), DatabaseError> {
    sqlx::query(sql)
        .bind(org.0)
        .bind(job.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes an organisation's counter fit its row.
///
/// # Errors
/// [`DatabaseError`].
pub async fn limits_set_tenant_in_tx(tx: &mut Tx, org: OrgId) -> Result<(), DatabaseError> {
    sqlx::query(UNSET_TENANT)
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    sqlx::query(SET_TENANT)
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes the counters of keys that a job counts by and that have none.
///
/// # Errors
/// [`DatabaseError`].
pub async fn limits_key_in_tx(
    tx: &mut Tx,
    org: OrgId,
    job: JobId,
    keys: &[String],
) -> Result<(), DatabaseError> {
    sqlx::query(KEYS)
        .bind(vec![org.0; keys.len()])
        .bind(vec![job.0; keys.len()])
        .bind(keys)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Likewise for lanes.
///
/// # Errors
/// [`DatabaseError`].
pub async fn limits_key(pool: &PgPool, lanes: &[&Lane]) -> Result<(), DatabaseError> {
    sqlx::query(KEYS)
        .bind(lanes.iter().map(|lane| lane.org.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.job.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| &*lane.key).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}

/// Removes counters of keys that nobody uses, a thousand at most; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn limits_tidy(pool: &PgPool) -> Result<u64, DatabaseError> {
    Ok(sqlx::query(TIDY).execute(pool).await?.rows_affected())
}

//! What time does: what waits for a time becomes due, and what is old goes.

use contract::work::Lane;
use database::DatabaseError;
use domain::{JobId, OrgId};
use sqlx::PgPool;
use uuid::Uuid;

/// What is soon is gathered once: a plan that was made while nothing waited would look for it again for each row. It is locked, so
/// that it is not due is not asked again: an index tempts to read all that is not due.
const DUE: &str = "
    WITH soon AS MATERIALIZED (
        SELECT ctid AS tid FROM scheduler.waiting WHERE NOT due AND run_at <= now()
        ORDER BY run_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE scheduler.waiting AS w SET due = true FROM soon WHERE w.ctid = soon.tid
    RETURNING w.pool, w.org_id, w.job_id, w.key";

const ENSURE: &str = "SELECT scheduler.partitions_ensure((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + $1::int)";

/// Of the days of what is open those that have none; a scan, but one is missed hardly ever.
const ENSURE_OPEN: &str = "
    SELECT coalesce(sum(scheduler.partitions_ensure(day, day)), 0)::int FROM (
        SELECT day FROM (
            SELECT DISTINCT (to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000)
                AT TIME ZONE 'UTC')::date AS day
            FROM (SELECT id FROM scheduler.waiting UNION ALL SELECT id FROM scheduler.running) AS open
        ) AS days
        WHERE to_regclass('scheduler.ended_' || to_char(day, 'YYYYMMDD')) IS NULL
            OR to_regclass('scheduler.log_chunks_' || to_char(day, 'YYYYMMDD')) IS NULL
        ORDER BY day LIMIT $1
    ) AS missing";

const DROP: &str = "SELECT scheduler.partitions_drop((now() AT TIME ZONE 'UTC')::date - $1::int)";

/// By their places: a plan that was made while there were none would look for each among all.
const FORGET_KEYS: &str = "
    WITH old AS MATERIALIZED (
        SELECT ctid AS tid FROM scheduler.idempotency_keys
        WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT $1
    )
    DELETE FROM scheduler.idempotency_keys AS k USING old WHERE k.ctid = old.tid";

/// Makes due what waited for a time that has come, at most so many; the pool and lane of each.
///
/// # Errors
/// [`DatabaseError`].
pub async fn due_make(pool: &PgPool, most: i64) -> Result<Vec<(String, Lane)>, DatabaseError> {
    let rows: Vec<(String, Uuid, Uuid, String)> =
        sqlx::query_as(DUE).bind(most).fetch_all(pool).await?;
    Ok(rows
        .into_iter()
        .map(|(of, org, job, key)| {
            let lane = Lane {
                org: OrgId(org),
                job: JobId(job),
                key,
            };
            (of, lane)
        })
        .collect())
}

/// Makes the partitions from yesterday until so many days ahead; says how many it made.
///
/// # Errors
/// [`DatabaseError`].
pub async fn partitions_ensure(pool: &PgPool, ahead: i32) -> Result<i32, DatabaseError> {
    Ok(sqlx::query_scalar(ENSURE)
        .bind(ahead)
        .fetch_one(pool)
        .await?)
}

/// Makes the partitions that what waits and what runs will need and that are missing, of so many days at most; says how many
/// it made.
///
/// # Errors
/// [`DatabaseError`].
pub async fn partitions_ensure_open(pool: &PgPool, most: i64) -> Result<i32, DatabaseError> {
    Ok(sqlx::query_scalar(ENSURE_OPEN)
        .bind(most)
        .fetch_one(pool)
        .await?)
}

/// Drops the partitions of more than so many days ago in which nothing is open, and nothing ended since: those of the first such day;
/// says how many it dropped.
///
/// # Errors
/// [`DatabaseError`].
pub async fn partitions_drop(pool: &PgPool, days: i32) -> Result<i32, DatabaseError> {
    Ok(sqlx::query_scalar(DROP).bind(days).fetch_one(pool).await?)
}

/// Forgets `Idempotency-Key`s of more than a day ago, at most so many; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn keys_forget(pool: &PgPool, most: i64) -> Result<u64, DatabaseError> {
    Ok(sqlx::query(FORGET_KEYS)
        .bind(most)
        .execute(pool)
        .await?
        .rows_affected())
}

//! What waits, as the dispatcher sees it: lanes, and the first of each. And which replica is a pool's dispatcher.

use std::time::Duration;

use contract::work::Lane;
use database::DatabaseError;
use domain::{ExecutionId, JobId, OrgId};
use sqlx::PgPool;
use uuid::Uuid;

// A loose scan of waiting_lanes: each step is one probe for what comes after the lane before.
const LOOK: &str = "
    WITH RECURSIVE lane AS (
        (SELECT w.org_id, w.job_id, w.key FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.due AND (w.org_id, w.job_id, w.key) > ($2, $3, $4)
            ORDER BY w.org_id, w.job_id, w.key LIMIT 1)
        UNION ALL
        SELECT next.org_id, next.job_id, next.key FROM lane CROSS JOIN LATERAL (
            SELECT w.org_id, w.job_id, w.key FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.due AND (w.org_id, w.job_id, w.key) > (lane.org_id, lane.job_id, lane.key)
            ORDER BY w.org_id, w.job_id, w.key LIMIT 1
        ) AS next
    )
    SELECT org_id, job_id, key FROM lane LIMIT $5";

// Where there is no room it says 0, and null where nothing is limited. `rest_ms`: until the window of a rate ends, when it is full.
// (Each is looked up by itself: joined, a plan that was made while there was nothing reads all that there is.)
const FIRST: &str = "
    SELECT lane.place - 1 AS place, t.weight,
        CASE WHEN t.paused_at IS NOT NULL OR j.paused_at IS NOT NULL THEN 0
            WHEN t.concurrency IS NOT NULL THEN coalesce(of_tenant.max - of_tenant.running, 0) END AS tenant_free,
        CASE WHEN j.concurrency IS NOT NULL OR j.rate_max IS NOT NULL THEN
            CASE WHEN of_job.org_id IS NULL THEN 0
                WHEN of_job.rate_max IS NULL THEN of_job.max - of_job.running
                WHEN now() >= of_job.window_at + of_job.rate_per_ms * interval '1 ms'
                    THEN least(of_job.max - of_job.running, of_job.rate_max)
                ELSE least(of_job.max - of_job.running, of_job.rate_max - of_job.window_count) END
            END AS job_free,
        CASE WHEN j.key_concurrency IS NOT NULL AND lane.key <> '' THEN
            CASE WHEN of_key.org_id IS NULL THEN j.key_concurrency ELSE of_key.max - of_key.running END
            END AS key_free,
        coalesce(j.key_concurrency IS NOT NULL AND lane.key <> '' AND of_key.org_id IS NULL, false) AS key_missing,
        CASE WHEN of_job.window_count >= of_job.rate_max THEN greatest(0, extract(epoch FROM
            of_job.window_at + of_job.rate_per_ms * interval '1 ms' - now()) * 1000)::bigint END AS rest_ms,
        first.ids, first.priorities
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[]) WITH ORDINALITY AS lane(org_id, job_id, key, most, place)
    CROSS JOIN LATERAL (
        SELECT t.weight, t.paused_at, t.concurrency FROM scheduler.tenants AS t WHERE t.org_id = lane.org_id LIMIT 1
    ) AS t
    CROSS JOIN LATERAL (
        SELECT j.* FROM scheduler.jobs AS j WHERE j.org_id = lane.org_id AND j.id = lane.job_id LIMIT 1
    ) AS j
    LEFT JOIN LATERAL (
        SELECT l.* FROM scheduler.limits AS l
        WHERE l.org_id = lane.org_id AND l.job_id = '00000000-0000-0000-0000-000000000000' AND l.key = '' LIMIT 1
    ) AS of_tenant ON true
    LEFT JOIN LATERAL (
        SELECT l.* FROM scheduler.limits AS l WHERE l.org_id = lane.org_id AND l.job_id = lane.job_id AND l.key = '' LIMIT 1
    ) AS of_job ON true
    LEFT JOIN LATERAL (
        SELECT l.* FROM scheduler.limits AS l
        WHERE l.org_id = lane.org_id AND l.job_id = lane.job_id AND l.key = lane.key AND lane.key <> '' LIMIT 1
    ) AS of_key ON true
    CROSS JOIN LATERAL (
        SELECT array_agg(w.id ORDER BY w.priority DESC, w.id) AS ids,
            array_agg(w.priority ORDER BY w.priority DESC, w.id) AS priorities
        FROM (
            SELECT w.id, w.priority FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.org_id = lane.org_id AND w.job_id = lane.job_id AND w.key = lane.key AND w.due
            ORDER BY w.priority DESC, w.id LIMIT lane.most
        ) AS w
    ) AS first
    ORDER BY lane.place";

const DISPATCH: &str = "
    INSERT INTO scheduler.dispatchers (pool, holder, held_until) VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT ON CONSTRAINT dispatchers_pkey
        DO UPDATE SET holder = EXCLUDED.holder, held_until = EXCLUDED.held_until
        WHERE dispatchers.holder = EXCLUDED.holder OR dispatchers.held_until < now()
    RETURNING holder";

const RESIGN: &str = "DELETE FROM scheduler.dispatchers WHERE holder = $1";

// A time before it was made is no time at which it waited; nor does anybody wait for what is paused, which therefore comes last: it
// is counted as far as there is room for it. Jobs are found by a loose scan of waiting_lanes.
const AGES: &str = "
    WITH RECURSIVE job AS (
        (SELECT w.org_id, w.job_id FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.due ORDER BY w.org_id, w.job_id LIMIT 1)
        UNION ALL
        SELECT next.org_id, next.job_id FROM job CROSS JOIN LATERAL (
            SELECT w.org_id, w.job_id FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.due AND (w.org_id, w.job_id) > (job.org_id, job.job_id)
            ORDER BY w.org_id, w.job_id LIMIT 1
        ) AS next
    )
    SELECT count(*), coalesce(extract(epoch FROM now() - min(greatest(w.run_at, w.created_at)) FILTER (WHERE NOT w.paused)), 0)::float8
    FROM (
        SELECT job.paused, w.run_at, w.created_at
        FROM (
            SELECT job.org_id, job.job_id, (t.paused_at IS NOT NULL OR j.paused_at IS NOT NULL) AS paused
            FROM (SELECT * FROM job LIMIT 10000) AS job CROSS JOIN LATERAL (
                SELECT t.paused_at FROM scheduler.tenants AS t WHERE t.org_id = job.org_id LIMIT 1
            ) AS t CROSS JOIN LATERAL (
                SELECT j.paused_at FROM scheduler.jobs AS j WHERE j.org_id = job.org_id AND j.id = job.job_id LIMIT 1
            ) AS j
            ORDER BY paused
        ) AS job CROSS JOIN LATERAL (
            SELECT w.run_at, w.created_at FROM scheduler.waiting AS w
            WHERE w.pool = $1 AND w.due AND w.org_id = job.org_id AND w.job_id = job.job_id LIMIT 100000
        ) AS w
        LIMIT 100000
    ) AS w";

/// The first of a lane, and what holds it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// Which of the lanes that were asked for.
    pub place: usize,
    /// Its organisation's share.
    pub weight: i16,
    /// How many more of the organisation may begin; `None` for any number.
    pub tenant_free: Option<i32>,
    /// How many more of the job.
    pub job_free: Option<i32>,
    /// How many more with the key.
    pub key_free: Option<i32>,
    /// Whether the key has no counter yet: nothing of it can be claimed.
    pub key_missing: bool,
    /// When the job's rate is used up: for how long.
    pub rest: Option<Duration>,
    /// The executions, the first first, with their priorities.
    pub waiting: Vec<(ExecutionId, i16)>,
}

/// Lanes in which something waits, in their order, after this one; at most so many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn lanes_look(
    pool: &PgPool,
    of: &str,
    after: Option<&Lane>,
    most: i64,
) -> Result<Vec<Lane>, DatabaseError> {
    let (org, job, key) = after.map_or((Uuid::nil(), Uuid::nil(), ""), |lane| {
        (lane.org.0, lane.job.0, lane.key.as_str())
    });
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(LOOK)
        .bind(of)
        .bind(org)
        .bind(job)
        .bind(key)
        .bind(most)
        .fetch_all(pool)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(org, job, key)| Lane {
            org: OrgId(org),
            job: JobId(job),
            key,
        })
        .collect())
}

type Row = (
    i64,
    i16,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    bool,
    Option<i64>,
    Option<Vec<Uuid>>,
    Option<Vec<i16>>,
);

/// The first of each lane, as many as are said with it.
///
/// # Errors
/// [`DatabaseError`].
pub async fn lanes_first(
    pool: &PgPool,
    of: &str,
    lanes: &[(Lane, i64)],
) -> Result<Vec<First>, DatabaseError> {
    let rows: Vec<Row> = sqlx::query_as(FIRST)
        .bind(of)
        .bind(lanes.iter().map(|(lane, _)| lane.org.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(lane, _)| lane.job.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(lane, _)| &*lane.key).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(_, most)| *most).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    Ok(rows
        .into_iter()
        .map(
            |(place, weight, tenant, job, key, key_missing, rest, ids, priorities)| First {
                place: usize::try_from(place).unwrap_or(usize::MAX),
                weight,
                tenant_free: tenant,
                job_free: job,
                key_free: key,
                key_missing,
                // Rounded up: a look that comes too early finds the same.
                rest: rest.map(|millis| Duration::from_millis(millis.unsigned_abs() + 1)),
                waiting: ids
                    .unwrap_or_default()
                    .into_iter()
                    .map(ExecutionId)
                    .zip(priorities.unwrap_or_default())
                    .collect(),
            },
        )
        .collect())
}

/// Whether this replica is the pool's dispatcher, for so long from now.
///
/// # Errors
/// [`DatabaseError`].
pub async fn dispatcher_hold(
    pool: &PgPool,
    of: &str,
    replica: Uuid,
    hold: Duration,
) -> Result<bool, DatabaseError> {
    let holder: Option<Uuid> = sqlx::query_scalar(DISPATCH)
        .bind(of)
        .bind(replica)
        .bind(hold.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    Ok(holder.is_some())
}

/// Lets another replica be dispatcher at once.
///
/// # Errors
/// [`DatabaseError`].
pub async fn dispatcher_resign(pool: &PgPool, replica: Uuid) -> Result<(), DatabaseError> {
    sqlx::query(RESIGN).bind(replica).execute(pool).await?;
    Ok(())
}

/// How many wait for a worker, and for how long the first of them that is not paused, in seconds. 100,000 at most are looked at, of
/// 10,000 jobs; those that are paused last.
///
/// # Errors
/// [`DatabaseError`].
pub async fn lanes_age(pool: &PgPool, of: &str) -> Result<(i64, f64), DatabaseError> {
    Ok(sqlx::query_as(AGES).bind(of).fetch_one(pool).await?)
}

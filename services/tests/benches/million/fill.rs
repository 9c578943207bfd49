//! A history: what ended in the last days, and what waits and may not begin. Rows as the scheduler writes them, made by the owner of
//! the tables: seven organisations, of which the first (the bench's own) has four rows of ten, with five jobs each.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

/// What ended, when all of it is there.
pub const ENDED: i64 = 1_000_000;
/// What waits then.
pub const WAITING: i64 = 100_000;
/// Of a little history one row of so many is there: enough that every page of every list is full.
pub const LITTLE: i64 = 101;

/// Over how many hours what ended was asked for: as long as the partitions reach that are there from the beginning, and nearly as
/// long as executions are kept.
const HOURS: [f64; 2] = [20.0, 28.0 * 24.0];

/// What the owner of the tables fills once row-level security is not forced upon him.
const TABLES: [&str; 6] = ["tenants", "jobs", "limits", "waiting", "running", "ended"];

const PARTITIONS: &str = "SELECT scheduler.partitions_ensure(current_date - 29, current_date + 3)";

/// In the first organisation the jobs 0 and 3 are paused, 3 counts by keys, and 2 has used up its rate. The sixth organisation
/// is paused, the seventh is at its limit.
const JOBS: &str = "
    WITH org AS (
        SELECT k, CASE k WHEN 0 THEN $1 ELSE md5('organisation ' || k)::uuid END AS id FROM generate_series(0, 6) AS k
    ), tenant AS (
        INSERT INTO scheduler.tenants (org_id, paused_at, concurrency)
        SELECT id, CASE k WHEN 5 THEN now() END, CASE k WHEN 6 THEN 0 END FROM org
        ON CONFLICT ON CONSTRAINT tenants_pkey DO NOTHING
    )
    INSERT INTO scheduler.jobs (org_id, id, name, handler, pool, timeout_ms, retries, backoff_ms, paused_at, key_concurrency,
        rate_max, rate_per_ms, created_at, updated_at)
    SELECT org.id, md5('job ' || k || ' ' || j)::uuid, 'filled ' || j, 'builtin/noop', 'default', 300000, 3, 1000,
        CASE WHEN k = 0 AND j IN (0, 3) THEN now() END, CASE WHEN k = 0 AND j = 3 THEN 2 END,
        CASE WHEN k = 0 AND j = 2 THEN 1 END, CASE WHEN k = 0 AND j = 2 THEN 86400000 END, now(), now()
    FROM org CROSS JOIN generate_series(0, 4) AS j
    ON CONFLICT ON CONSTRAINT jobs_pkey DO NOTHING";

const LIMITS: &str = "
    INSERT INTO scheduler.limits (org_id, job_id, key, max, rate_max, rate_per_ms, window_at, window_count)
    VALUES (md5('organisation 6')::uuid, '00000000-0000-0000-0000-000000000000', '', 0, NULL, NULL, 'epoch', 0),
        ($1, md5('job 0 2')::uuid, '', NULL, 1, 86400000, now(), 1)
    ON CONFLICT ON CONSTRAINT limits_pkey DO NOTHING";

/// Ninety of a hundred completed; six failed and two ran into their timeout, after three retries; two were cancelled while they waited.
const END: &str = "
    INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, override, principal_kind, principal_id, credential,
        scheduled_for, created_at, attempt, concluded, failures, losses, attempts, token, version, status, started_at, ended_at,
        result, error, dead_letter)
    SELECT org_id, id, job_id, 'default', '', 0, CASE WHEN n % 4 = 0 THEN jsonb_build_object('n', n) END, 'API_KEY', org_id, org_id,
        made, made, attempt, attempt, CASE WHEN failed THEN attempt ELSE 0 END, 0,
        CASE WHEN failed THEN (
            SELECT jsonb_agg(jsonb_build_object('attempt', a, 'outcome', 'FAILED', 'startedAt', made, 'endedAt', made,
                'error', jsonb_build_object('message', 'the server said 503'))) FROM generate_series(1, attempt - 1) AS a) END,
        CASE WHEN status <> 'CANCELLED' THEN md5(hash)::uuid END, 1 + 2 * attempt, status,
        CASE WHEN status <> 'CANCELLED' THEN made + interval '20 ms' END, made + interval '220 ms',
        CASE WHEN status = 'COMPLETED' THEN jsonb_build_object('status', 200, 'took', n % 1000) END,
        CASE WHEN failed THEN '{\"message\": \"the server said 503\"}'::jsonb END, failed
    FROM (
        SELECT place.*, status IN ('FAILED', 'TIMEOUT') AS failed,
            CASE status WHEN 'COMPLETED' THEN 1 WHEN 'CANCELLED' THEN 0 ELSE 4 END AS attempt,
            (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0') || '7' || left(hash, 3) || '8' || right(hash, 15))::uuid
                AS id,
            CASE k WHEN 0 THEN $1 ELSE md5('organisation ' || k)::uuid END AS org_id,
            md5('job ' || k || ' ' || n / 10 % 5)::uuid AS job_id
        FROM (
            SELECT n, md5('execution ' || n) AS hash, greatest(0, n % 10 - 3) AS k,
                date_trunc('milliseconds', now() - interval '1 minute' - interval '1 hour' * ($4 * (1 - n / $2::float8))) AS made,
                CASE WHEN n / 50 % 100 < 6 THEN 'FAILED' WHEN n / 50 % 100 < 8 THEN 'TIMEOUT'
                    WHEN n / 50 % 100 < 10 THEN 'CANCELLED' ELSE 'COMPLETED' END AS status
            FROM generate_series(1, $2::bigint, $3::bigint) AS n
        ) AS place
    ) AS filled";

/// None of it may begin. In the first organisation two jobs are paused (one with keys), two are put off, one has used up its rate.
const WAIT: &str = "
    INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, principal_kind, principal_id, credential,
        scheduled_for, created_at)
    SELECT CASE k WHEN 0 THEN $1 ELSE md5('organisation ' || k)::uuid END,
        (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0') || '7' || left(hash, 3) || '8' || right(hash, 15))::uuid,
        md5('job ' || k || ' ' || j)::uuid, 'default', CASE WHEN k = 0 AND j = 3 THEN 'key ' || n % 97 ELSE '' END, 0, due,
        CASE WHEN due THEN made ELSE made + interval '20 days' END, 'API_KEY', md5('nobody')::uuid, md5('nobody')::uuid, made, made
    FROM (
        SELECT n, md5('waiting ' || n) AS hash, k, j, NOT (k = 0 AND j IN (1, 4)) AS due,
            date_trunc('milliseconds', now() - interval '1 minute' - interval '20 hours' * (1 - n / $2::float8)) AS made
        FROM (
            SELECT n, CASE WHEN n % 10 < 4 THEN 0 WHEN n % 10 < 7 THEN 5 ELSE 6 END AS k, n / 10 % 5 AS j
            FROM generate_series(1, $2::bigint, $3::bigint) AS n
        ) AS number
    ) AS filled";

/// The leaves: autovacuum looks at them, and never at what they are partitions of.
const LEAVES: &str = "
    SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'scheduler.ended'::regclass
    UNION ALL SELECT unnest(ARRAY['tenants', 'jobs', 'limits', 'waiting', 'running'])";

/// The owner of the tables, to whom row-level security is no obstacle: he takes it away.
pub async fn owner(url: &str) -> PgConnection {
    let mut owner = PgConnection::connect(url).await.expect("the database");
    for table in TABLES {
        let sql = format!("ALTER TABLE scheduler.{table} NO FORCE ROW LEVEL SECURITY");
        let seen = sqlx::query(AssertSqlSafe(sql)).execute(&mut owner).await;
        seen.expect("the owner may");
    }
    owner
}

/// Fills the tables: each row of the history, or one of [`LITTLE`]. The first organisation is `org`.
pub async fn fill(owner: &mut PgConnection, org: Uuid, all: bool) {
    let began = Instant::now();
    if all {
        let made = sqlx::query(PARTITIONS).execute(&mut *owner).await;
        made.expect("partitions");
    }
    for sql in [JOBS, LIMITS] {
        let filled = sqlx::query(sql).bind(org).execute(&mut *owner).await;
        filled.expect("what the executions are of");
    }
    let step = if all { 1 } else { LITTLE };
    let ended = sqlx::query(END)
        .bind(org)
        .bind(ENDED)
        .bind(step)
        .bind(HOURS[usize::from(all)])
        .execute(&mut *owner)
        .await
        .expect("what has ended");
    let waiting = sqlx::query(WAIT)
        .bind(org)
        .bind(WAITING)
        .bind(step)
        .execute(&mut *owner)
        .await
        .expect("what waits");
    println!(
        "{} ended and {} waiting executions more, in {:.0} s",
        ended.rows_affected(),
        waiting.rows_affected(),
        began.elapsed().as_secs_f64()
    );
}

/// As autovacuum does it.
pub async fn tidy(owner: &mut PgConnection) {
    let leaves: Vec<String> = sqlx::query_scalar(LEAVES)
        .fetch_all(&mut *owner)
        .await
        .expect("the tables");
    for leaf in leaves {
        let sql = format!("VACUUM (ANALYZE) scheduler.{leaf}");
        let tidied = sqlx::query(AssertSqlSafe(sql)).execute(&mut *owner).await;
        tidied.expect("the owner may");
    }
}

//! Statements are planned once, often while there is nothing: what they read must not grow with what is there. Blocks are counted,
//! by the server itself; nothing is timed.

use std::collections::BTreeMap;

use database::Pools;
use domain::OrgId;
use sqlx::{Connection, PgConnection};
use testkit::{Postgres, TestDatabase};
use uuid::Uuid;

use calls::{CALLS, Ids, call};

mod calls;

/// The most blocks of one table (and its indexes) that a call about three executions may read. None needs half of it; whoever reads
/// all of what [`FILL`] made needs more.
const MOST: i64 = 120;

/// A table that nobody plans for anew: autovacuum would make a plan better, or not, depending on when it comes.
const EMPTY: &str = "
    DO $$
    DECLARE t regclass;
    BEGIN
        PERFORM scheduler.partitions_ensure(current_date - 1, current_date + 1);
        FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind = 'r' LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', t);
        END LOOP;
    END $$;
    CREATE TABLE public.made (n integer, org uuid, job uuid, at timestamptz, id uuid);
    INSERT INTO scheduler.tenants (org_id) VALUES (md5('organisation')::uuid);
    INSERT INTO scheduler.jobs (org_id, id, name, handler, pool, timeout_ms, retries, backoff_ms, created_at, updated_at)
    VALUES (md5('organisation')::uuid, md5('job')::uuid, 'job', 'builtin/noop', 'default', 60000, 3, 1000, now(), now());
    INSERT INTO scheduler.sessions (id, pool, worker, concurrency, expires_at)
    VALUES (md5('session')::uuid, 'default', 'test', 100, now() + interval '1 day')";

/// Nearly everything is gone again; then the primary keys are what they have become, and all other indexes are small.
const GONE: &str = "
    DELETE FROM public.made WHERE n % 2000 <> 11;
    DELETE FROM scheduler.waiting WHERE id NOT IN (SELECT id FROM public.made);
    DELETE FROM scheduler.running WHERE id NOT IN (SELECT id FROM public.made);
    DELETE FROM scheduler.ended WHERE id NOT IN (SELECT id FROM public.made);
    DELETE FROM scheduler.log_chunks WHERE execution_id NOT IN (SELECT id FROM public.made);
    DELETE FROM scheduler.deduplications;
    DELETE FROM scheduler.idempotency_keys;
    DELETE FROM scheduler.limits;
    DELETE FROM scheduler.jobs WHERE name <> 'job';
    DELETE FROM scheduler.tenants WHERE org_id <> md5('organisation')::uuid;
    DELETE FROM public.made";

const SHRINK: &str = "
    DO $$
    DECLARE i regclass;
    BEGIN
        FOR i IN SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE relnamespace = 'scheduler'::regnamespace AND relkind = 'i' AND NOT indisprimary LOOP
            EXECUTE format('REINDEX INDEX %s', i);
        END LOOP;
    END $$";

/// One job's executions of the last minute, and three of one with a limit, beside many other jobs and organisations. A session has
/// three of them. (No temporary table: with the first of a connection all plans of the database are forgotten.)
const FILL: &str = "
    INSERT INTO scheduler.tenants (org_id) SELECT md5('organisation ' || n)::uuid FROM generate_series(1, 45000) AS n;
    INSERT INTO scheduler.jobs (org_id, id, name, handler, pool, timeout_ms, retries, backoff_ms, created_at, updated_at)
    SELECT md5('organisation')::uuid, md5('job ' || n)::uuid, 'job ' || n, 'builtin/noop', 'default', 60000, 3, 1000, now(), now()
    FROM generate_series(1, 45000) AS n;
    UPDATE scheduler.jobs SET key_concurrency = 1 WHERE name = 'job 20000';
    INSERT INTO scheduler.limits (org_id, job_id, key, max)
    SELECT md5('organisation')::uuid, md5('job 1')::uuid, 'key ' || n, 1 FROM generate_series(1, 45000) AS n;
    INSERT INTO public.made
    SELECT n, md5('organisation')::uuid AS org, md5('job')::uuid AS job, now() AS at,
        (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - n), 12, '0') || '7' || left(hash, 3) || '8'
            || right(hash, 15))::uuid AS id
    FROM generate_series(1, 45000) AS n CROSS JOIN LATERAL md5('execution ' || n) AS hash;
    INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, deduplication_key, principal_kind,
        principal_id, credential, scheduled_for, created_at)
    SELECT org, id, job, 'default', '', 0, n % 10 > 0, at, 'key ' || n, 'USER', org, org, at, at FROM public.made WHERE n <= 20000;
    UPDATE scheduler.jobs SET concurrency = 10 WHERE name = 'job 20001';
    INSERT INTO scheduler.limits (org_id, job_id, key, max) VALUES (md5('organisation')::uuid, md5('job 20001')::uuid, '', 10);
    UPDATE scheduler.waiting SET job_id = md5('job 20001')::uuid
    WHERE id IN (SELECT id FROM public.made WHERE n > 100 AND n <= 103);
    INSERT INTO scheduler.deduplications (org_id, job_id, key, execution_id)
    SELECT org, job, 'key ' || n, id FROM public.made WHERE n <= 20000;
    INSERT INTO scheduler.running (org_id, id, job_id, pool, key, priority, principal_kind, principal_id, credential, scheduled_for,
        created_at, attempt, failures, losses, token, version, session_id, started_at, timeout_ms, retries, backoff_ms)
    SELECT org, id, job, 'default', '', 0, 'USER', org, org, at, at, 1, 0, 0, md5('token')::uuid, 2,
        CASE WHEN n <= 20003 THEN md5('session')::uuid ELSE md5('session ' || n / 3)::uuid END, at, 60000, 3, 1000
    FROM public.made WHERE n > 20000 AND n <= 25000;
    INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, principal_kind, principal_id, credential, scheduled_for,
        created_at, attempt, failures, losses, token, version, status, started_at, ended_at, dead_letter)
    SELECT org, id, job, 'default', '', 0, 'USER', org, org, at, at, 1, 1, 0, md5('token')::uuid, 3, 'FAILED', at, at, true
    FROM public.made WHERE n > 25000;
    INSERT INTO scheduler.log_chunks (org_id, execution_id, attempt, first, lines, bytes)
    SELECT org, id, 1, 0, ARRAY['a line'], 100 FROM public.made WHERE n > 20000;
    INSERT INTO scheduler.idempotency_keys (org_id, route, key, body_hash, ids, created_at)
    SELECT org, 'a route', 'key ' || n, 'hash', '{}', at - interval '2 days' FROM public.made WHERE n <= 20000";

const MADE: &str = "SELECT id FROM public.made WHERE n > $1 ORDER BY n LIMIT 3";

const NAMED: &str = "SELECT md5($1)::uuid";

const BLOCKS: &str = "
    SELECT regexp_replace(relname, '_[0-9]{8}$', ''),
        sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))::bigint
    FROM pg_statio_user_tables WHERE schemaname = 'scheduler' GROUP BY 1";

/// What a connection counted is told at its next rest.
const TELL: &str = "SELECT pg_stat_force_next_flush()";

/// As no statement should be.
const ALL: &str = "SELECT count(pool) FROM scheduler.waiting WHERE org_id = $1 AND attempt = 1";

/// The blocks that were read of each table so far.
async fn blocks(pools: &Pools, org: OrgId, admin: &mut PgConnection) -> BTreeMap<String, i64> {
    sqlx::query(TELL).execute(pools.system()).await.unwrap();
    let mut tx = pools.tenant_tx(org).await.unwrap();
    sqlx::query(TELL).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let rows: Vec<(String, i64)> = sqlx::query_as(BLOCKS).fetch_all(admin).await.unwrap();
    rows.into_iter().collect()
}

/// The most that was read of one table between two looks, and of which.
fn most(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> (i64, String) {
    let read = after.iter().map(|(table, blocks)| {
        let before = before.get(table).copied().unwrap_or_default();
        (blocks - before, table.clone())
    });
    read.max().unwrap()
}

/// Three executions of the rows that [`FILL`] made, after so many.
async fn made(admin: &mut PgConnection, after: i64) -> Vec<Uuid> {
    let ids = sqlx::query_scalar(MADE).bind(after).fetch_all(admin).await;
    ids.unwrap()
}

/// The id that [`FILL`] makes of a name.
async fn named(admin: &mut PgConnection, name: &str) -> Uuid {
    let id = sqlx::query_scalar(NAMED).bind(name).fetch_one(admin).await;
    id.unwrap()
}

#[tokio::test]
async fn a_plan_that_was_made_while_there_was_nothing_is_good_for_thousands() {
    let (database, mut admin) = empty().await;
    vacuum(&mut admin).await;
    planned_now_is_good_later(&database, admin).await;
}

/// Which index looks the cheapest depends on what each has left of before.
#[tokio::test]
async fn a_plan_that_was_made_after_most_had_gone_is_good_for_thousands() {
    let (database, mut admin) = empty().await;
    for sql in [FILL, GONE] {
        sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
    }
    vacuum(&mut admin).await;
    sqlx::raw_sql(SHRINK).execute(&mut admin).await.unwrap();
    planned_now_is_good_later(&database, admin).await;
}

async fn empty() -> (TestDatabase, PgConnection) {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let mut admin = PgConnection::connect(&server.admin_url(&database.name))
        .await
        .unwrap();
    sqlx::raw_sql(EMPTY).execute(&mut admin).await.unwrap();
    (database, admin)
}

async fn vacuum(admin: &mut PgConnection) {
    let vacuum = sqlx::raw_sql("VACUUM (ANALYZE)").execute(admin).await;
    vacuum.unwrap();
}

async fn planned_now_is_good_later(database: &TestDatabase, mut admin: PgConnection) {
    // One connection of each role, with the service's settings: what is planned on it stays planned.
    let (url, system_url) = (
        database.url("df_scheduler"),
        database.url("df_scheduler_system"),
    );
    let pools = Pools::connect("scheduler", &url, &system_url, 1).unwrap();
    let org = OrgId(named(&mut admin, "organisation").await);
    let three = || vec![Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let mut ids = Ids {
        org,
        job: named(&mut admin, "job").await,
        session: named(&mut admin, "session").await,
        token: named(&mut admin, "token").await,
        waiting: three(),
        running: three(),
        ended: three(),
        jobs: three(),
        limited: three(),
    };
    for (name, _) in CALLS {
        call(name, &pools, &ids).await;
    }
    let mut tx = pools.tenant_tx(org).await.unwrap();
    let all = sqlx::query(ALL).bind(org.0).execute(&mut *tx).await;
    all.unwrap();
    tx.commit().await.unwrap();

    sqlx::raw_sql(FILL).execute(&mut admin).await.unwrap();
    sqlx::query(TELL).execute(&mut admin).await.unwrap();
    ids.waiting = made(&mut admin, 0).await;
    ids.limited = made(&mut admin, 100).await;
    ids.running = made(&mut admin, 20_000).await;
    ids.ended = made(&mut admin, 30_000).await;
    for (at, job) in ids.jobs.iter_mut().enumerate() {
        *job = named(&mut admin, &format!("job {}", 20_000 + at)).await;
    }
    let mut before = blocks(&pools, org, &mut admin).await;
    for (name, expected) in CALLS {
        let found = call(name, &pools, &ids).await;
        assert_eq!(found, expected, "rows that `{name}` found");
        let after = blocks(&pools, org, &mut admin).await;
        let (read, table) = most(&before, &after);
        assert!(read > 0, "`{name}` read nothing, or nobody counted it");
        assert!(read <= MOST, "`{name}` read {read} blocks of {table}");
        before = after;
    }

    // What reads all is found out.
    let mut tx = pools.tenant_tx(org).await.unwrap();
    let all = sqlx::query(ALL).bind(org.0).execute(&mut *tx).await;
    all.unwrap();
    tx.commit().await.unwrap();
    let (read, table) = most(&before, &blocks(&pools, org, &mut admin).await);
    assert!(
        read > MOST && table == "waiting",
        "{read} blocks of {table}"
    );
}

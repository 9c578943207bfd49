//! Claims, as a group commit: one statement takes what waits and may begin, and gives it to its worker.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use contract::execution::RunAs;
use contract::run::{Assignment, Offer, Place};
use contract::work::Lane;
use database::Batch;
use database::group_commit::Written;
use domain::ExecutionId;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use crate::store::row;

/// How many bytes of configuration one session is given in one statement, but for a first that is longer.
const CONFIG_MAX_BYTES: i64 = 512 * 1024;

/// The session's row, the tenants' and the jobs' are held FOR SHARE, the limits' rows for update, in the order of their keys.
/// Then from the innermost limit to the outermost: what has room by its key, of that by its job, of that by its organisation.
/// Where a limit was set a moment ago and its row is not seen yet, nothing begins: it is offered again. What the session has
/// already (its claim was answered, and the answer lost) is given again. A session of another pool than the caller's is given
/// nothing. What somebody holds to cancel it is left to him: others' claims are in the same statement, and none waits for him. Rows at
/// place 0 are the sessions that there are. What waits is looked up row by row and deleted by its place: a plan
/// that was made while nothing waited would read all of it for each row. (What waits is the first from there on, if it is that: only the
/// primary key serves such an order.) Likewise the limits, one probe each. They are counted by what is an insertion in form only:
/// each row is there and held, and is found by its key in its newest version, which no place that this statement saw before need be.
/// The parts are joined in full, which is done by hashing only: told that each has one row, a planner would compare each of a
/// thousand with each. What is nobody's then is left out, by a `coalesce` since a plain condition would undo the full join.
const CLAIM: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $6::text[])
        WITH ORDINALITY AS input(org_id, id, session_id, token, caller, place)
    ), session AS MATERIALIZED (
        SELECT s.id, s.pool FROM scheduler.sessions AS s
        WHERE s.id IN (SELECT input.session_id FROM input)
        ORDER BY s.id FOR SHARE
    ), wanted AS MATERIALIZED (
        SELECT input.place, input.session_id, input.token, w.tid, w.org_id, w.id, w.job_id, w.key, w.override
        FROM (
            SELECT input.*, session.pool FROM input
            FULL JOIN session ON session.id = input.session_id AND session.pool = input.caller OFFSET 0
        ) AS input
        CROSS JOIN LATERAL (
            SELECT w.ctid AS tid, w.* FROM scheduler.waiting AS w
            WHERE (w.org_id, w.id) >= (input.org_id, input.id) ORDER BY w.org_id, w.id LIMIT 1
        ) AS w
        WHERE w.org_id = input.org_id AND w.id = input.id AND w.pool = input.pool AND w.due
    ), tenant AS MATERIALIZED (
        SELECT t.org_id, t.paused_at, t.concurrency FROM scheduler.tenants AS t
        WHERE t.org_id IN (SELECT wanted.org_id FROM wanted)
        ORDER BY t.org_id FOR SHARE
    ), job AS MATERIALIZED (
        SELECT j.* FROM scheduler.jobs AS j
        WHERE (j.org_id, j.id) IN (SELECT wanted.org_id, wanted.job_id FROM wanted)
        ORDER BY j.org_id, j.id FOR SHARE
    ), room AS MATERIALIZED (
        SELECT l.*, CASE
                WHEN l.rate_max IS NULL THEN l.max - l.running
                WHEN now() >= l.window_at + l.rate_per_ms * interval '1 ms' THEN least(l.max - l.running, l.rate_max)
                ELSE least(l.max - l.running, l.rate_max - l.window_count)
            END AS free
        FROM (
            SELECT tenant.org_id, '00000000-0000-0000-0000-000000000000'::uuid AS job_id, '' AS key FROM tenant
            UNION SELECT job.org_id, job.id, '' FROM job
            UNION SELECT wanted.org_id, wanted.job_id, wanted.key FROM wanted
            ORDER BY org_id, job_id, key
        ) AS of CROSS JOIN LATERAL (
            SELECT * FROM scheduler.limits AS l WHERE l.org_id = of.org_id AND l.job_id = of.job_id AND l.key = of.key
            LIMIT 1 FOR NO KEY UPDATE
        ) AS l
    ), by_key AS (
        SELECT wanted.*, job.handler, job.config, job.timeout_ms, job.retries, job.backoff_ms, of_job.free AS job_free,
            of_tenant.free AS tenant_free, of_key.free AS key_free,
            row_number() OVER (PARTITION BY wanted.org_id, wanted.job_id, wanted.key ORDER BY wanted.place) AS nth
        FROM wanted
        FULL JOIN tenant ON tenant.org_id = wanted.org_id
        FULL JOIN job ON job.org_id = wanted.org_id AND job.id = wanted.job_id
        FULL JOIN (SELECT * FROM room WHERE job_id = '00000000-0000-0000-0000-000000000000') AS of_tenant
            ON of_tenant.org_id = wanted.org_id
        FULL JOIN (SELECT * FROM room WHERE job_id <> '00000000-0000-0000-0000-000000000000' AND key = '') AS of_job
            ON of_job.org_id = wanted.org_id AND of_job.job_id = wanted.job_id
        FULL JOIN (SELECT * FROM room WHERE key <> '') AS of_key
            ON of_key.org_id = wanted.org_id AND of_key.job_id = wanted.job_id AND of_key.key = wanted.key
        WHERE coalesce(wanted.id IS NOT NULL AND tenant.org_id IS NOT NULL AND job.id IS NOT NULL, false)
            AND tenant.paused_at IS NULL AND job.paused_at IS NULL
            AND (tenant.concurrency IS NULL OR of_tenant.org_id IS NOT NULL)
            AND (job.concurrency IS NULL AND job.rate_max IS NULL OR of_job.org_id IS NOT NULL)
            AND (job.key_concurrency IS NULL OR wanted.key = '' OR of_key.org_id IS NOT NULL)
    ), by_job AS (
        SELECT by_key.*, row_number() OVER (PARTITION BY org_id, job_id ORDER BY place) AS nth_of_job
        FROM by_key WHERE key_free IS NULL OR nth <= key_free
    ), by_tenant AS (
        SELECT by_job.*, row_number() OVER (PARTITION BY org_id ORDER BY place) AS nth_of_tenant
        FROM by_job WHERE job_free IS NULL OR nth_of_job <= job_free
    ), sized AS (
        SELECT by_tenant.*, by_tenant.config || coalesce(by_tenant.override, '{}') AS effective,
            row_number() OVER (PARTITION BY session_id ORDER BY place) AS nth_of_session,
            sum(octet_length(by_tenant.config::text) + coalesce(octet_length(by_tenant.override::text), 0))
                OVER (PARTITION BY session_id ORDER BY place) AS bytes
        FROM by_tenant WHERE tenant_free IS NULL OR nth_of_tenant <= tenant_free
    ), free AS MATERIALIZED (
        SELECT sized.* FROM sized CROSS JOIN LATERAL (
            SELECT FROM scheduler.waiting AS w WHERE w.ctid = sized.tid AND w.org_id = sized.org_id AND w.id = sized.id
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS w
        WHERE sized.bytes <= $5 OR sized.nth_of_session = 1
    ), taken AS (
        DELETE FROM scheduler.waiting AS w USING free AS sized
        WHERE w.ctid = sized.tid AND w.org_id = sized.org_id AND w.id = sized.id
        RETURNING w.org_id, w.id, w.job_id, w.pool, w.key, w.priority, w.override, w.deduplication_key, w.principal_kind,
            w.principal_id, w.credential, w.traceparent, w.scheduled_for, w.created_at, w.attempt, w.concluded, w.failures,
            w.losses, w.attempts, w.version, sized.place, sized.session_id, sized.token AS granted, sized.handler,
            sized.effective, sized.timeout_ms, sized.retries, sized.backoff_ms
    ), begun AS (
        INSERT INTO scheduler.running (org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind,
            principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded, failures, losses, attempts,
            token, version, session_id, started_at, timeout_ms, retries, backoff_ms)
        SELECT org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind, principal_id, credential,
            traceparent, scheduled_for, created_at, attempt + 1, concluded, failures, losses, attempts, granted, version + 1,
            session_id, now(), timeout_ms, retries, backoff_ms
        FROM taken
    ), counted AS (
        INSERT INTO scheduler.limits AS l (org_id, job_id, key, running)
        SELECT org_id, job_id, key, count(*) FILTER (WHERE begins) FROM (
            SELECT org_id, '00000000-0000-0000-0000-000000000000'::uuid AS job_id, '' AS key, true AS begins FROM taken
            UNION ALL SELECT org_id, job_id, '', true FROM taken
            UNION ALL SELECT org_id, job_id, key, true FROM taken WHERE key <> ''
            UNION ALL SELECT org_id, job_id, key, false FROM room
        ) AS each
        GROUP BY org_id, job_id, key HAVING bool_or(begins) AND NOT bool_and(begins)
        ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET
            running = l.running + EXCLUDED.running,
            window_at = CASE WHEN l.rate_max IS NOT NULL AND now() >= l.window_at + l.rate_per_ms * interval '1 ms'
                THEN now() ELSE l.window_at END,
            window_count = CASE WHEN l.rate_max IS NULL THEN 0
                WHEN now() >= l.window_at + l.rate_per_ms * interval '1 ms' THEN EXCLUDED.running
                ELSE l.window_count + EXCLUDED.running END
    ), held AS (
        SELECT input.place, r.org_id, r.id, r.job_id, r.key, r.attempt, r.concluded, r.token AS granted,
            coalesce(j.handler, '') AS handler, coalesce(j.config, '{}') || coalesce(r.override, '{}') AS effective, r.timeout_ms,
            r.principal_kind, r.principal_id, r.scheduled_for, r.traceparent
        FROM input CROSS JOIN LATERAL (
            SELECT r.* FROM scheduler.running AS r WHERE r.org_id = input.org_id AND r.id = input.id LIMIT 1
        ) AS r
        LEFT JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
        WHERE r.session_id = input.session_id AND r.pool = input.caller
    )
    SELECT place, org_id, id, job_id, key, attempt + 1 AS attempt, concluded, granted, handler, effective, timeout_ms,
        principal_kind, principal_id, scheduled_for, traceparent, true AS fresh FROM taken
    UNION ALL
    SELECT place, org_id, id, job_id, key, attempt, concluded, granted, handler, effective, timeout_ms, principal_kind,
        principal_id, scheduled_for, traceparent, false FROM held
    UNION ALL
    SELECT 0, NULL, id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false FROM session";

/// One execution that one session claims.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The pool of who asks.
    pub pool: Arc<str>,
    /// The session.
    pub session: Uuid,
    /// The execution.
    pub offer: Offer,
    /// The token that it gets if it is granted: the same when the statement is run again.
    pub token: Uuid,
}

/// What became of a claim.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// There is no such session (any more).
    NoSession,
    /// It may not begin here and now.
    Refused,
    /// It is RUNNING.
    Granted {
        /// With all that its handler needs.
        assignment: Box<Assignment>,
        /// The lane that it came from.
        lane: Lane,
        /// Not given before.
        fresh: bool,
    },
}

/// The group commit of claims.
#[derive(Debug)]
pub struct Claims;

impl Batch for Claims {
    type Item = Claim;
    type Answer = Claimed;
    type Key = (Uuid, Uuid);

    const ONE_STATEMENT: bool = true;

    fn key(item: &Claim) -> (Uuid, Uuid) {
        (item.offer.org.0, item.offer.id.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Claim],
    ) -> Written<'a, Claimed> {
        Box::pin(async move {
            fn column(items: &[&Claim], of: impl Fn(&Claim) -> Uuid) -> Vec<Uuid> {
                items.iter().map(|item| of(item)).collect()
            }
            let rows = sqlx::query(CLAIM)
                .bind(column(items, |item| item.offer.org.0))
                .bind(column(items, |item| item.offer.id.0))
                .bind(column(items, |item| item.session))
                .bind(column(items, |item| item.token))
                .bind(CONFIG_MAX_BYTES)
                .bind(items.iter().map(|item| &*item.pool).collect::<Vec<_>>())
                .fetch_all(connection)
                .await?;
            let mut sessions = HashSet::new();
            let mut answers: Vec<Option<Claimed>> = items.iter().map(|_| None).collect();
            for row in &rows {
                let place: i64 = row.try_get("place")?;
                if place == 0 {
                    sessions.insert(row.try_get::<Uuid, _>("id")?);
                    continue;
                }
                let answer = usize::try_from(place - 1)
                    .ok()
                    .and_then(|place| answers.get_mut(place))
                    .ok_or_else(|| sqlx::Error::Decode(format!("a place {place}").into()))?;
                *answer = Some(claimed(row)?);
            }
            Ok(items
                .iter()
                .zip(answers)
                .map(|(item, answer)| {
                    answer.unwrap_or(match sessions.contains(&item.session) {
                        true => Claimed::Refused,
                        false => Claimed::NoSession,
                    })
                })
                .collect())
        })
    }
}

#[derive(FromRow)]
struct Granted {
    org_id: Uuid,
    id: Uuid,
    job_id: Uuid,
    key: String,
    attempt: i32,
    concluded: i32,
    granted: Uuid,
    handler: String,
    effective: Value,
    timeout_ms: i64,
    principal_kind: String,
    principal_id: Uuid,
    scheduled_for: DateTime<Utc>,
    traceparent: Option<String>,
    fresh: bool,
}

fn claimed(row: &PgRow) -> Result<Claimed, sqlx::Error> {
    let found = Granted::from_row(row)?;
    let (org, job) = (found.org_id.into(), found.job_id.into());
    let config = match found.effective {
        Value::Object(config) => config,
        _ => Map::new(),
    };
    let assignment = Assignment {
        place: Place {
            org,
            id: ExecutionId(found.id),
            attempt: found.attempt,
            token: found.granted,
        },
        job_id: job,
        handler: found.handler,
        config,
        timeout_ms: found.timeout_ms,
        run_as: RunAs {
            kind: row::principal_kind(&found.principal_kind)?,
            id: found.principal_id,
        },
        concluded: found.concluded,
        scheduled_for: found.scheduled_for.into(),
        traceparent: found.traceparent,
    };
    Ok(Claimed::Granted {
        assignment: Box::new(assignment),
        lane: Lane {
            org,
            job,
            key: found.key,
        },
        fresh: found.fresh,
    })
}

//! The statements of a claim: [`PLAIN`] where nothing is limited, [`LIMITED`] for whatever is left.
//!
//! In both the session's row, the tenants' and the jobs' are held FOR SHARE, each kind in the order of its keys: whoever sets a limit or
//! a pause changes one of them, hence waits, and then sees what began. A session of another pool than the caller's is given nothing.
//! What somebody holds to cancel it is left to him: others' claims are in the same statement, and none waits for him.
//!
//! Whatever is looked up is looked up row by row, and what waits is deleted by its place: a plan that was made while there was nothing
//! would read all that there is, each time. (What waits is the first from there on, if it is that: only the primary key serves such an
//! order.) The parts are joined in full, which is done by hashing only: told that each has one row, a planner would compare each of a
//! thousand with each. What is nobody's then is left out, by a `coalesce` since a plain condition would undo the full join.

/// What is asked for, the sessions that there are, and what waits of it, as `wanted`.
macro_rules! asked {
    () => {
        "WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $6::text[])
        WITH ORDINALITY AS input(org_id, id, session_id, token, caller, place)
    ), session AS MATERIALIZED (
        SELECT s.* FROM (SELECT DISTINCT session_id FROM input ORDER BY session_id) AS of CROSS JOIN LATERAL (
            SELECT s.id, s.pool FROM scheduler.sessions AS s WHERE s.id = of.session_id LIMIT 1 FOR SHARE
        ) AS s
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
    )"
    };
}

/// From `sized` (what may begin, and how much of its session's answer it takes up) to the rows of `taken`: gone from what waits, and
/// among what runs.
macro_rules! begun {
    () => {
        ", free AS MATERIALIZED (
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
    )"
    };
}

/// What begins where neither the organisation nor the job has a limit or a pause: they have no counters, which halves the work. What it
/// leaves (also what the session has already, and what has no session) is [`LIMITED`]'s to judge. A limit that is being set is waited
/// for, and then seen: a row is judged once more when it is locked.
pub(super) const PLAIN: &str = concat!(
    asked!(),
    ", tenant AS MATERIALIZED (
        SELECT t.* FROM (SELECT DISTINCT org_id FROM wanted ORDER BY org_id) AS of CROSS JOIN LATERAL (
            SELECT t.org_id FROM scheduler.tenants AS t
            WHERE t.org_id = of.org_id AND t.paused_at IS NULL AND t.concurrency IS NULL LIMIT 1 FOR SHARE
        ) AS t
    ), job AS MATERIALIZED (
        SELECT j.*, octet_length(j.config::text) AS bytes
        FROM (SELECT DISTINCT org_id, job_id FROM wanted ORDER BY org_id, job_id) AS of CROSS JOIN LATERAL (
            SELECT j.* FROM scheduler.jobs AS j
            WHERE j.org_id = of.org_id AND j.id = of.job_id AND j.paused_at IS NULL
                AND j.concurrency IS NULL AND j.rate_max IS NULL AND j.key_concurrency IS NULL LIMIT 1 FOR SHARE
        ) AS j
    ), sized AS (
        SELECT wanted.*, job.handler, job.timeout_ms, job.retries, job.backoff_ms,
            job.config || coalesce(wanted.override, '{}') AS effective,
            row_number() OVER (PARTITION BY session_id ORDER BY place) AS nth_of_session,
            sum(job.bytes + coalesce(octet_length(wanted.override::text), 0))
                OVER (PARTITION BY session_id ORDER BY place) AS bytes
        FROM wanted
        FULL JOIN tenant ON tenant.org_id = wanted.org_id
        FULL JOIN job ON job.org_id = wanted.org_id AND job.id = wanted.job_id
        WHERE coalesce(wanted.id IS NOT NULL AND tenant.org_id IS NOT NULL AND job.id IS NOT NULL, false)
    )",
    begun!(),
    " SELECT place, org_id, id, job_id, key, attempt + 1 AS attempt, concluded, granted, handler, effective, timeout_ms,
        principal_kind, principal_id, scheduled_for, traceparent, true AS fresh FROM taken"
);

/// What begins, from the innermost limit to the outermost: what has room by its key, of that by its job, of that by its organisation.
/// The limits' rows are held for update, in the order of their keys. Where a limit was set a moment ago and its row is not seen yet,
/// nothing begins: it is offered again. What the session has already (its claim was answered, and the answer lost) is given again, as
/// much of it as is given anew at most: the rest is told with a renewal. Rows at place 0 are the sessions that there are. Limits are
/// looked up one probe each. They are counted by what is an insertion in form only: each row is there and held, and is found by its key
/// in its newest version, which no place that this statement saw before need be.
pub(super) const LIMITED: &str = concat!(
    asked!(),
    ", tenant AS MATERIALIZED (
        SELECT t.* FROM (SELECT DISTINCT org_id FROM wanted ORDER BY org_id) AS of CROSS JOIN LATERAL (
            SELECT t.org_id, t.paused_at, t.concurrency FROM scheduler.tenants AS t WHERE t.org_id = of.org_id
            LIMIT 1 FOR SHARE
        ) AS t
    ), job AS MATERIALIZED (
        SELECT j.* FROM (SELECT DISTINCT org_id, job_id FROM wanted ORDER BY org_id, job_id) AS of CROSS JOIN LATERAL (
            SELECT j.* FROM scheduler.jobs AS j WHERE j.org_id = of.org_id AND j.id = of.job_id LIMIT 1 FOR SHARE
        ) AS j
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
    )",
    begun!(),
    ", counted AS (
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
    ), known AS (
        SELECT input.place, input.session_id, r.org_id, r.id, r.job_id, r.key, r.attempt, r.concluded, r.token AS granted,
            coalesce(j.handler, '') AS handler, coalesce(j.config, '{}') || coalesce(r.override, '{}') AS effective, r.timeout_ms,
            r.principal_kind, r.principal_id, r.scheduled_for, r.traceparent
        FROM input CROSS JOIN LATERAL (
            SELECT r.* FROM scheduler.running AS r WHERE r.org_id = input.org_id AND r.id = input.id LIMIT 1
        ) AS r
        LEFT JOIN LATERAL (
            SELECT j.handler, j.config FROM scheduler.jobs AS j WHERE j.org_id = r.org_id AND j.id = r.job_id LIMIT 1
        ) AS j ON true
        WHERE r.session_id = input.session_id AND r.pool = input.caller
    ), held AS (
        SELECT * FROM (
            SELECT known.*, row_number() OVER (PARTITION BY session_id ORDER BY place) AS nth,
                sum(octet_length(effective::text)) OVER (PARTITION BY session_id ORDER BY place) AS bytes
            FROM known
        ) AS known
        WHERE bytes <= $5 OR nth = 1
    )
    SELECT place, org_id, id, job_id, key, attempt + 1 AS attempt, concluded, granted, handler, effective, timeout_ms,
        principal_kind, principal_id, scheduled_for, traceparent, true AS fresh FROM taken
    UNION ALL
    SELECT place, org_id, id, job_id, key, attempt, concluded, granted, handler, effective, timeout_ms, principal_kind,
        principal_id, scheduled_for, traceparent, false FROM held
    UNION ALL
    SELECT 0, NULL, id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false FROM session"
);

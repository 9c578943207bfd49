//! The statements of ends: [`PLAIN`] for what was completed where nothing is limited, [`FINISH`] for whatever else workers say, [`LOST`]
//! for what a session had, and [`WAS`] for what is there no more.
//!
//! Rows are looked up row by row and deleted by their place, and parts are joined in full, as in a claim.

/// From `found` (rows of `running` that may be concerned) the locks, and `complete`: what can be ended now. A limit that was set a
/// moment ago has counted this row, and its own row is not seen yet: that must be tried again.
macro_rules! complete {
    () => {
        ", tenant AS MATERIALIZED (
            SELECT t.* FROM (SELECT DISTINCT org_id FROM found ORDER BY org_id) AS of CROSS JOIN LATERAL (
                SELECT t.org_id, t.concurrency FROM scheduler.tenants AS t WHERE t.org_id = of.org_id LIMIT 1 FOR SHARE
            ) AS t
        ), job AS MATERIALIZED (
            SELECT j.* FROM (SELECT DISTINCT org_id, job_id FROM found ORDER BY org_id, job_id) AS of CROSS JOIN LATERAL (
                SELECT j.org_id, j.id, j.concurrency, j.key_concurrency, j.rate_max FROM scheduler.jobs AS j
                WHERE j.org_id = of.org_id AND j.id = of.job_id LIMIT 1 FOR SHARE
            ) AS j
        ), room AS MATERIALIZED (
            SELECT l.* FROM (
                SELECT tenant.org_id, '00000000-0000-0000-0000-000000000000'::uuid AS job_id, '' AS key FROM tenant
                UNION SELECT job.org_id, job.id, '' FROM job
                UNION SELECT found.org_id, found.job_id, found.key FROM found
                ORDER BY org_id, job_id, key
            ) AS of CROSS JOIN LATERAL (
                SELECT l.org_id, l.job_id, l.key, l.window_at FROM scheduler.limits AS l
                WHERE l.org_id = of.org_id AND l.job_id = of.job_id AND l.key = of.key LIMIT 1 FOR NO KEY UPDATE
            ) AS l
        ), complete AS MATERIALIZED (
            SELECT found.*, of_job.window_at, coalesce(of_tenant.org_id, of_job.org_id, of_key.org_id) IS NOT NULL AS limited
            FROM found
            FULL JOIN tenant ON tenant.org_id = found.org_id
            FULL JOIN job ON job.org_id = found.org_id AND job.id = found.job_id
            FULL JOIN (SELECT * FROM room WHERE job_id = '00000000-0000-0000-0000-000000000000') AS of_tenant
                ON of_tenant.org_id = found.org_id
            FULL JOIN (SELECT * FROM room WHERE job_id <> '00000000-0000-0000-0000-000000000000' AND key = '') AS of_job
                ON of_job.org_id = found.org_id AND of_job.job_id = found.job_id
            FULL JOIN (SELECT * FROM room WHERE key <> '') AS of_key
                ON of_key.org_id = found.org_id AND of_key.job_id = found.job_id AND of_key.key = found.key
            WHERE coalesce(found.id IS NOT NULL, false)
                AND (tenant.concurrency IS NULL OR of_tenant.org_id IS NOT NULL)
                AND (job.concurrency IS NULL AND job.rate_max IS NULL OR of_job.org_id IS NOT NULL)
                AND (job.key_concurrency IS NULL OR found.key = '' OR of_key.org_id IS NOT NULL)
            ORDER BY found.org_id, found.id
        )"
    };
}

/// From `taken` (deleted from `running`, with what its end was, and whether its worker `said` so) to `judged`, with what waits again.
/// What nobody said has no token any more: whoever shows it later is told that the attempt was not theirs ([`WAS`]). The limits are
/// counted as in a claim: by what is an insertion in form only, since each row is there and held. What was given `back` before its handler
/// began has used up nothing of its window.
macro_rules! judged {
    () => {
        ", counted AS (
            INSERT INTO scheduler.limits AS l (org_id, job_id, key, running, window_count)
            SELECT org_id, job_id, key, count(*) FILTER (WHERE ends), count(*) FILTER (WHERE back) FROM (
                SELECT org_id, '00000000-0000-0000-0000-000000000000'::uuid AS job_id, '' AS key, true AS ends, false AS back
                FROM taken
                UNION ALL SELECT org_id, job_id, '', true, back FROM taken
                UNION ALL SELECT org_id, job_id, key, true, false FROM taken WHERE key <> ''
                UNION ALL SELECT org_id, job_id, key, false, false FROM room
            ) AS each
            GROUP BY org_id, job_id, key HAVING bool_or(ends) AND NOT bool_and(ends)
            ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET
                running = l.running - EXCLUDED.running, window_count = greatest(l.window_count - EXCLUDED.window_count, 0)
        ), judged AS MATERIALIZED (
            SELECT taken.*,
                CASE
                    WHEN outcome = 'COMPLETED' THEN 'COMPLETED'
                    WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                    WHEN outcome = 'CANCELLED' THEN 'CANCELLED'
                    WHEN outcome = 'HANDED_BACK' THEN NULL
                    WHEN outcome = 'LOST' THEN CASE WHEN losses + 1 >= $1 THEN 'FAILED' END
                    WHEN permanent OR failures >= retries THEN outcome
                END AS status,
                failures + CASE WHEN outcome IN ('FAILED', 'TIMEOUT') THEN 1 ELSE 0 END AS failures_now,
                losses + CASE WHEN outcome = 'LOST' THEN 1 ELSE 0 END AS losses_now,
                concluded + CASE WHEN outcome IN ('COMPLETED', 'FAILED') THEN 1 ELSE 0 END AS concluded_now,
                CASE WHEN outcome IN ('FAILED', 'TIMEOUT') THEN now() + interval '1 ms'
                    * least(backoff_ms * power(2, least(failures, 30)), 3600000) * (1 - 0.25 * jitter)
                    ELSE now() END AS again_at
            FROM taken
        ), again AS (
            INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, override, deduplication_key,
                principal_kind, principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded, failures,
                losses, attempts, token, version)
            SELECT org_id, id, job_id, pool, key, priority, again_at <= now(), again_at, override, deduplication_key,
                principal_kind, principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded_now,
                failures_now, losses_now,
                CASE WHEN jsonb_array_length(coalesce(attempts, '[]')) >= 50 THEN attempts - 0 ELSE coalesce(attempts, '[]') END
                    || (jsonb_build_object('attempt', attempt, 'outcome', outcome,
                        'startedAt', to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                        'endedAt', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'))
                    || CASE WHEN error IS NULL THEN '{}' ELSE jsonb_build_object('error',
                        jsonb_build_object('message', left(error ->> 'message', 1000))) END),
                CASE WHEN said THEN token END, version + 1
            FROM judged WHERE status IS NULL
        )"
    };
}

/// From `judged` everything that has ended: kept, its deduplication key free, its event told.
macro_rules! ended {
    () => {
        ", done AS (
            INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind,
                principal_id, credential, traceparent, scheduled_for, created_at, attempt, concluded, failures, losses, attempts,
                token, version, status, started_at, ended_at, result, error, dead_letter)
            SELECT org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind, principal_id, credential,
                traceparent, scheduled_for, created_at, attempt, concluded_now, failures_now, losses_now, attempts,
                CASE WHEN said THEN token END, version + 1, status, started_at, now(),
                CASE WHEN status = 'COMPLETED' THEN result END, CASE WHEN status <> 'COMPLETED' THEN error END,
                status IN ('FAILED', 'TIMEOUT')
            FROM judged WHERE status IS NOT NULL
        ), freed AS (
            DELETE FROM scheduler.deduplications AS d USING (
                SELECT held.tid FROM judged CROSS JOIN LATERAL (
                    SELECT d.ctid AS tid FROM scheduler.deduplications AS d
                    WHERE d.org_id = judged.org_id AND d.job_id = judged.job_id AND d.key = judged.deduplication_key
                        AND d.execution_id = judged.id LIMIT 1
                ) AS held
                WHERE judged.status IS NOT NULL AND judged.deduplication_key IS NOT NULL
            ) AS held
            WHERE d.ctid = held.tid
        ), told AS (
            INSERT INTO scheduler.outbox (id, org_id, noun, verb, subject_id, version, at, data)
            SELECT event_id, org_id, 'execution', lower(status), id, version + 1, now(),
                jsonb_build_object('jobId', job_id, 'status', status, 'attempt', attempt,
                    'deadLetter', status IN ('FAILED', 'TIMEOUT'))
            FROM judged WHERE status IS NOT NULL
        )"
    };
}

/// A row of `moved` for each of `judged`.
macro_rules! moved {
    () => {
        ", moved AS (
            SELECT place, org_id, id, job_id, pool, key, attempt, status, status IS NULL AND again_at <= now() AS waits, limited,
                now() AS at, started_at, created_at, traceparent, CASE WHEN traceparent IS NOT NULL THEN outcome END AS outcome
            FROM judged
        )"
    };
}

/// What was completed, where neither the organisation nor the job has a limit: there are no counters, nothing is judged and nothing waits
/// again, which makes it a third cheaper. What it leaves is [`FINISH`]'s to judge.
pub(super) const PLAIN: &str = concat!(
    "WITH found AS MATERIALIZED (
        SELECT r.tid, r.org_id, r.id, r.job_id, r.attempt, r.token, input.place, input.result, input.event_id
        FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::jsonb[], $6::uuid[])
        WITH ORDINALITY AS input(org_id, id, attempt, token, result, event_id, place)
        CROSS JOIN LATERAL (
            SELECT r.ctid AS tid, r.* FROM scheduler.running AS r WHERE r.org_id = input.org_id AND r.id = input.id LIMIT 1
        ) AS r
        WHERE r.attempt = input.attempt AND r.token = input.token
    ), tenant AS MATERIALIZED (
        SELECT t.* FROM (SELECT DISTINCT org_id FROM found ORDER BY org_id) AS of CROSS JOIN LATERAL (
            SELECT t.org_id FROM scheduler.tenants AS t
            WHERE t.org_id = of.org_id AND t.concurrency IS NULL LIMIT 1 FOR SHARE
        ) AS t
    ), job AS MATERIALIZED (
        SELECT j.* FROM (SELECT DISTINCT org_id, job_id FROM found ORDER BY org_id, job_id) AS of CROSS JOIN LATERAL (
            SELECT j.org_id, j.id FROM scheduler.jobs AS j
            WHERE j.org_id = of.org_id AND j.id = of.job_id
                AND j.concurrency IS NULL AND j.rate_max IS NULL AND j.key_concurrency IS NULL LIMIT 1 FOR SHARE
        ) AS j
    ), complete AS MATERIALIZED (
        SELECT found.* FROM found
        FULL JOIN tenant ON tenant.org_id = found.org_id
        FULL JOIN job ON job.org_id = found.org_id AND job.id = found.job_id
        WHERE coalesce(found.id IS NOT NULL AND tenant.org_id IS NOT NULL AND job.id IS NOT NULL, false)
        ORDER BY found.org_id, found.id
    ), taken AS (
        DELETE FROM scheduler.running AS r USING complete
        WHERE r.ctid = complete.tid AND r.org_id = complete.org_id AND r.id = complete.id AND r.attempt = complete.attempt
            AND r.token = complete.token
        RETURNING r.*, complete.place, complete.result, complete.event_id
    ), judged AS NOT MATERIALIZED (
        SELECT taken.*, 'COMPLETED'::text AS status, NULL::jsonb AS error, failures AS failures_now, losses AS losses_now,
            concluded + 1 AS concluded_now, true AS said
        FROM taken
    )",
    ended!(),
    " SELECT place, org_id, id, job_id, pool, key, attempt, status, false AS waits, false AS limited, now() AS at, started_at, created_at,
        traceparent, CASE WHEN traceparent IS NOT NULL THEN status END AS outcome
    FROM judged"
);

/// A row for each that was taken, and one without `id` for each that was found: what is not among the first must be tried again,
/// and what is in neither was not there ([`WAS`]). (The answers are not joined, what runs is looked up row by row, and is deleted by
/// its place: nobody can tell the planner how many there are. One that changed since it was looked up may stay, and is tried again.)
pub(super) const FINISH: &str = concat!(
    "WITH found AS MATERIALIZED (
        SELECT r.tid, r.org_id, r.id, r.job_id, r.key, input.attempt, input.token, input.place, input.outcome, input.result,
            input.error, input.permanent, input.jitter, input.event_id, input.unbegun
        FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::uuid[], $6::text[], $7::jsonb[], $8::jsonb[], $9::bool[],
            $10::float8[], $11::uuid[], $12::bool[])
        WITH ORDINALITY AS input(org_id, id, attempt, token, outcome, result, error, permanent, jitter, event_id, unbegun, place)
        CROSS JOIN LATERAL (
            SELECT r.ctid AS tid, r.* FROM scheduler.running AS r WHERE r.org_id = input.org_id AND r.id = input.id LIMIT 1
        ) AS r
        WHERE r.attempt = input.attempt AND r.token = input.token
    )",
    complete!(),
    ", taken AS (
        DELETE FROM scheduler.running AS r USING complete
        WHERE r.ctid = complete.tid AND r.org_id = complete.org_id AND r.id = complete.id AND r.attempt = complete.attempt
            AND r.token = complete.token
        RETURNING r.*, complete.place, complete.outcome, complete.result, complete.error, complete.permanent, complete.jitter,
            complete.event_id, complete.limited, true AS said,
            coalesce(complete.unbegun AND complete.outcome = 'HANDED_BACK' AND r.started_at >= complete.window_at, false) AS back
    )",
    judged!(),
    ended!(),
    moved!(),
    " SELECT * FROM moved
    UNION ALL SELECT place, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM found"
);

/// Which of these attempts ended by a finish with this token: the place of each. (One that was given up has none any more.)
pub(super) const WAS: &str = "
    SELECT input.place FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[])
        WITH ORDINALITY AS input(org_id, id, attempt, token, place)
    LEFT JOIN LATERAL (
        SELECT e.attempt, e.token FROM scheduler.ended AS e
        WHERE e.org_id = input.org_id AND e.id BETWEEN input.id AND input.id ORDER BY e.id LIMIT 1
    ) AS e ON true
    LEFT JOIN LATERAL (
        SELECT w.org_id, w.id, w.attempt, w.token FROM scheduler.waiting AS w
        WHERE (w.org_id, w.id) >= (input.org_id, input.id) ORDER BY w.org_id, w.id LIMIT 1
    ) AS w ON w.org_id = input.org_id AND w.id = input.id
    WHERE e.attempt = input.attempt AND e.token = input.token OR w.attempt = input.attempt AND w.token = input.token";

/// What a session had, at most so many at once. (By the order of sessions, since only their own index serves that.) The limits of all
/// that it has are held from the first round on, and rows go in the order of their ids, as in a finish: with rows of one round in
/// hand, the next would wait for a finish that waits for those rows.
pub(super) const LOST: &str = concat!(
    "WITH found AS MATERIALIZED (
        SELECT * FROM (
            SELECT r.ctid AS tid, r.org_id, r.id, r.job_id, r.key FROM scheduler.running AS r WHERE r.session_id BETWEEN $2 AND $2
            ORDER BY r.session_id LIMIT 100000
        ) AS r ORDER BY r.org_id, r.id
    )",
    complete!(),
    ", taken AS (
        DELETE FROM scheduler.running AS r USING (SELECT * FROM complete ORDER BY org_id, id LIMIT $4) AS complete
        WHERE r.ctid = complete.tid AND r.org_id = complete.org_id AND r.id = complete.id
        RETURNING r.*, complete.limited, 0::bigint AS place, $3::text AS outcome, NULL::jsonb AS result,
            CASE WHEN $3 = 'LOST' THEN jsonb_build_object('message',
                'the worker was lost: nobody knows how far the attempt came') END AS error,
            false AS permanent, 0::float8 AS jitter, gen_random_uuid() AS event_id, false AS said,
            false AS back
    )",
    judged!(),
    ended!(),
    moved!(),
    " SELECT * FROM moved"
);

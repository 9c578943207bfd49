//! Workers' sessions. The database's clock decides when one is over.

use std::collections::HashSet;
use std::time::Duration;

use contract::run::Place;
use database::{DatabaseError, Tx};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

// Asked twice, it is the same session; of another pool it is none.
const BEGIN: &str = "
    INSERT INTO scheduler.sessions (id, pool, worker, concurrency, expires_at)
    VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
    ON CONFLICT ON CONSTRAINT sessions_pkey DO UPDATE SET expires_at = EXCLUDED.expires_at
    WHERE sessions.pool = EXCLUDED.pool
    RETURNING id";

// Also one whose time has passed, while nobody has ended it: what it has is nobody else's yet.
const RENEW: &str = "
    UPDATE scheduler.sessions SET expires_at = now() + make_interval(secs => $3) WHERE id = $1 AND pool = $2 RETURNING id";

const CANCELLED: &str = "SELECT id FROM scheduler.running WHERE session_id = $1 AND cancel_requested_at IS NOT NULL LIMIT 1000";

const GIVEN: &str = "
    SELECT org_id, id FROM scheduler.running
    WHERE session_id = $1 AND started_at < now() - make_interval(secs => $2) LIMIT 10000";

// Looked up row by row and changed by its place: nobody can tell the planner how much a session has. A row that somebody holds is
// left, and so is one that changed since the look: waiting for some with others in hand, it could be waited for by a finish.
// A row for each that is written (`true`), and one for each that it is true of (`false`), whose fence holds.
const PROGRESS: &str = "
    WITH meant AS MATERIALIZED (
        SELECT input.* FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::uuid[], $6::jsonb[])
            AS input(org_id, id, attempt, token, progress)
        CROSS JOIN LATERAL (
            SELECT r.attempt, r.token, r.session_id FROM scheduler.running AS r
            WHERE r.org_id = input.org_id AND r.id = input.id LIMIT 1
        ) AS r
        WHERE r.attempt = input.attempt AND r.token = input.token AND r.session_id = $1
        ORDER BY input.org_id, input.id
    ), held AS MATERIALIZED (
        SELECT r.tid, meant.* FROM meant CROSS JOIN LATERAL (
            SELECT r.ctid AS tid FROM scheduler.running AS r
            WHERE r.org_id = meant.org_id AND r.id = meant.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) AS r
    ), put AS (
        UPDATE scheduler.running AS r SET progress = held.progress FROM held
        WHERE r.ctid = held.tid AND r.org_id = held.org_id AND r.id = held.id AND r.attempt = held.attempt
            AND r.token = held.token
        RETURNING r.id
    )
    SELECT id, true FROM put UNION ALL SELECT id, false FROM meant";

// From here to here, in this order: only the primary key serves that.
const PLACE: &str = "
    SELECT r.principal_kind, r.principal_id, r.credential, j.handler, j.config || coalesce(r.override, '{}') AS config
    FROM (
        SELECT * FROM scheduler.running WHERE org_id = $1 AND id BETWEEN $2 AND $2 ORDER BY id LIMIT 1
    ) AS r JOIN scheduler.sessions AS s ON s.id = r.session_id
    CROSS JOIN LATERAL (
        SELECT j.handler, j.config FROM scheduler.jobs AS j WHERE j.org_id = $1 AND j.id = r.job_id LIMIT 1
    ) AS j
    WHERE r.attempt = $3 AND r.token = $4 AND s.pool = $5 AND s.expires_at > now()";

const LOCK: &str = "SELECT id FROM scheduler.sessions WHERE id = $1 AND pool = $2 FOR UPDATE";

// Those that another replica is ending are left to it.
const EXPIRED: &str = "
    SELECT id FROM scheduler.sessions WHERE expires_at < now() AND id <> ALL ($1)
    ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED";

const END: &str = "DELETE FROM scheduler.sessions WHERE id = $1";

const HAS: &str = "SELECT EXISTS (SELECT FROM scheduler.running WHERE session_id = $1)";

// In the order of their ids, as whoever replaces a session by another holds them.
const EXTEND: &str = "
    WITH held AS MATERIALIZED (SELECT s.id FROM scheduler.sessions AS s ORDER BY s.id FOR NO KEY UPDATE)
    UPDATE scheduler.sessions SET expires_at = now() + make_interval(secs => $1) FROM held WHERE sessions.id = held.id";

const SLOTS: &str = "SELECT id, concurrency FROM scheduler.sessions WHERE pool = $1 LIMIT 10000";

const FIRST_TICK: &str = "
    INSERT INTO scheduler.ticks (name, at) VALUES ('reap', 'epoch') ON CONFLICT ON CONSTRAINT ticks_pkey DO NOTHING";

const TICK: &str = "
    UPDATE scheduler.ticks AS t SET at = now()
    FROM (SELECT at FROM scheduler.ticks WHERE name = 'reap' FOR UPDATE SKIP LOCKED) AS before
    WHERE t.name = 'reap' AND before.at <= now() - make_interval(secs => $1)
    RETURNING before.at < now() - make_interval(secs => $2)";

/// The sessions of a pool, 10,000 at most, with how many handlers each runs at once.
///
/// # Errors
/// [`DatabaseError`].
pub async fn slots(pool: &PgPool, of: &str) -> Result<Vec<(Uuid, usize)>, DatabaseError> {
    let rows: Vec<(Uuid, i32)> = sqlx::query_as(SLOTS).bind(of).fetch_all(pool).await?;
    Ok(rows
        .into_iter()
        .map(|(id, slots)| (id, usize::try_from(slots).unwrap_or_default()))
        .collect())
}

/// Begins a session, or finds it begun; `false` when another pool has the id.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_begin_in_tx(
    tx: &mut Tx,
    id: Uuid,
    pool: &str,
    worker: &str,
    concurrency: i32,
    lease: Duration,
) -> Result<bool, DatabaseError> {
    let begun: Option<Uuid> = sqlx::query_scalar(BEGIN)
        .bind(id)
        .bind(pool)
        .bind(worker)
        .bind(concurrency)
        .bind(lease.as_secs_f64())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(begun.is_some())
}

/// Renews a session; `false` when there is none.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_renew(
    pool: &PgPool,
    id: Uuid,
    of: &str,
    lease: Duration,
) -> Result<bool, DatabaseError> {
    let renewed: Option<Uuid> = sqlx::query_scalar(RENEW)
        .bind(id)
        .bind(of)
        .bind(lease.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    Ok(renewed.is_some())
}

/// What of a session was cancelled.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_cancelled(pool: &PgPool, id: Uuid) -> Result<Vec<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(CANCELLED)
        .bind(id)
        .fetch_all(pool)
        .await?)
}

/// What a session has had for longer than this: organisations and ids.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_given(
    pool: &PgPool,
    id: Uuid,
    longer: Duration,
) -> Result<Vec<(Uuid, Uuid)>, DatabaseError> {
    Ok(sqlx::query_as(GIVEN)
        .bind(id)
        .bind(longer.as_secs_f64())
        .fetch_all(pool)
        .await?)
}

/// How far an attempt is.
#[derive(Clone, Debug)]
pub struct Word {
    /// Its place.
    pub place: Place,
    /// What its handler said.
    pub progress: serde_json::Value,
}

/// What became of words: by the ids of their executions.
#[derive(Debug, Default)]
pub struct Put {
    /// Those whose attempt is the session's.
    pub meant: HashSet<Uuid>,
    /// Those of them that are written.
    pub put: HashSet<Uuid>,
}

/// Keeps how far executions are. What is meant and not put changed meanwhile, or somebody holds it: again is not in vain.
///
/// # Errors
/// [`DatabaseError`].
pub async fn progress_put(
    pool: &PgPool,
    session: Uuid,
    words: &[Word],
) -> Result<Put, DatabaseError> {
    fn column<T>(words: &[Word], of: impl Fn(&Word) -> T) -> Vec<T> {
        words.iter().map(of).collect()
    }
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(PROGRESS)
        .bind(session)
        .bind(column(words, |word| word.place.org.0))
        .bind(column(words, |word| word.place.id.0))
        .bind(column(words, |word| word.place.attempt))
        .bind(column(words, |word| word.place.token))
        .bind(column(words, |word| word.progress.clone()))
        .fetch_all(pool)
        .await?;
    let mut found = Put::default();
    for (id, put) in rows {
        let among = if put {
            &mut found.put
        } else {
            &mut found.meant
        };
        among.insert(id);
    }
    Ok(found)
}

/// An attempt that is a worker's: on whose behalf, and what its job says now.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Placed {
    pub principal_kind: String,
    pub principal_id: Uuid,
    pub credential: Uuid,
    pub handler: String,
    pub config: Value,
}

/// An attempt that is a worker's of this pool, whose lease holds.
///
/// # Errors
/// [`DatabaseError`].
pub async fn place_get(
    pool: &PgPool,
    of: &str,
    place: &Place,
) -> Result<Option<Placed>, DatabaseError> {
    Ok(sqlx::query_as(PLACE)
        .bind(place.org.0)
        .bind(place.id.0)
        .bind(place.attempt)
        .bind(place.token)
        .bind(of)
        .fetch_optional(pool)
        .await?)
}

/// Holds a session's row, so that nothing can be given to it; `false` when there is none.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_lock_in_tx(tx: &mut Tx, id: Uuid, pool: &str) -> Result<bool, DatabaseError> {
    let found: Option<Uuid> = sqlx::query_scalar(LOCK)
        .bind(id)
        .bind(pool)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

/// Holds the row of a session that has expired, if there is one.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_expired_in_tx(
    tx: &mut Tx,
    but: &[Uuid],
) -> Result<Option<Uuid>, DatabaseError> {
    Ok(sqlx::query_scalar(EXPIRED)
        .bind(but)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Whether a session has anything.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_has_in_tx(tx: &mut Tx, id: Uuid) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(HAS)
        .bind(id)
        .fetch_one(&mut **tx)
        .await?)
}

/// Removes a session that has nothing any more.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_end_in_tx(tx: &mut Tx, id: Uuid) -> Result<(), DatabaseError> {
    sqlx::query(END).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Whether this replica is to look for expired sessions now, as one does each `every`; then whether nobody had for `stall`,
/// and every session was given a whole `lease` more. `None` when it is not this replica's turn.
///
/// # Errors
/// [`DatabaseError`].
pub async fn reap_turn_in_tx(
    tx: &mut Tx,
    every: Duration,
    stall: Duration,
    lease: Duration,
) -> Result<Option<bool>, DatabaseError> {
    sqlx::query(FIRST_TICK).execute(&mut **tx).await?;
    // A little early is no harm: replicas' clocks tick at the same pace, and not at the same moment.
    let stalled: Option<bool> = sqlx::query_scalar(TICK)
        .bind(every.as_secs_f64() * 0.9)
        .bind(stall.as_secs_f64())
        .fetch_optional(&mut **tx)
        .await?;
    if stalled == Some(true) {
        sqlx::query(EXTEND)
            .bind(lease.as_secs_f64())
            .execute(&mut **tx)
            .await?;
    }
    Ok(stalled)
}

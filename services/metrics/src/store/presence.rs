//! Presence: who is there, decided from sessions in the database alone, so that several replicas agree.
//!
//! Whoever changes sessions or presence takes one advisory lock first ([`lock_in_tx`]) and holds it to the commit. So
//! the decisions come one after another, and the order of versions is the order of commits.

use std::time::Duration;

use chrono::{DateTime, Utc};
use database::DatabaseError;
use domain::{MachineId, OrgId};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::timing::Graces;

/// Taken before anything else of a transaction that decides.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('dashfleet.metrics'), hashtext('presence'))";

/// Decides about machines whose sessions changed (those over HTTP have none: `store::legacy`). One with an open session is online; one without becomes offline
/// when the grace of its latest session (the one that began last) is over; one that changed too often of late gets a
/// longer grace, so that a bad line is one incident and not a hundred. Gives the machines that came online, each
/// with its event in the outbox.
pub const DECIDE: &str = r#"
    WITH touched AS (
        SELECT DISTINCT t.org_id, t.machine_id FROM unnest($1::uuid[], $2::uuid[]) AS t(org_id, machine_id)
    ), state AS (
        SELECT m.org_id, m.id, m.online, m.offline_due_at, open.yes AS open, unstable.yes AS unstable,
            CASE WHEN NOT open.yes THEN coalesce(last.closed_at, now()) + make_interval(secs =>
                CASE WHEN last.closed_by = 'SERVER' THEN $4::float8 WHEN unstable.yes THEN greatest($3::float8, $5::float8) ELSE $3::float8 END) END AS due_at
        FROM touched t
        JOIN metrics.machines m ON m.org_id = t.org_id AND m.id = t.machine_id AND m.transport = 'NATS'
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT 1 FROM metrics.sessions s WHERE s.org_id = m.org_id AND s.machine_id = m.id AND s.closed_at IS NULL) AS yes
        ) open
        LEFT JOIN LATERAL (
            SELECT s.closed_at, s.closed_by FROM metrics.sessions s
            WHERE s.org_id = m.org_id AND s.machine_id = m.id ORDER BY s.started_at DESC LIMIT 1
        ) last ON true
        CROSS JOIN LATERAL (
            SELECT count(*) >= $6 AS yes FROM (
                SELECT 1 FROM metrics.presence_changes c
                WHERE c.org_id = m.org_id AND c.machine_id = m.id AND c.at > now() - make_interval(secs => $7::float8) LIMIT $6
            ) recent
        ) unstable
    ), waiting AS (
        UPDATE metrics.machines m SET offline_due_at = s.due_at
        FROM state s
        WHERE m.org_id = s.org_id AND m.id = s.id AND s.online AND s.offline_due_at IS DISTINCT FROM s.due_at
    ), came AS (
        UPDATE metrics.machines m
        SET online = true, offline_due_at = NULL, presence_at = greatest(now(), m.presence_at), presence_version = nextval('metrics.presence_version'),
            presence_reason = 'connected', unstable_until = CASE WHEN s.unstable THEN now() + make_interval(secs => $7::float8) END
        FROM state s
        WHERE m.org_id = s.org_id AND m.id = s.id AND s.open AND NOT s.online
        RETURNING m.org_id, m.id, m.online, m.presence_version, m.presence_at, m.status,
            CASE WHEN m.unstable_until IS NULL THEN m.presence_reason ELSE m.presence_reason || '; it came and went often of late' END AS presence_reason
    ), noted AS (
        INSERT INTO metrics.presence_changes (org_id, machine_id, version, at, online, reason)
        SELECT org_id, id, presence_version, presence_at, online, presence_reason FROM came
    ), told AS (
        INSERT INTO metrics.outbox (id, org_id, noun, verb, subject_id, version, at, data)
        SELECT gen_random_uuid(), org_id, 'machine', 'online', id, presence_version, presence_at, jsonb_build_object(
            'online', true, 'reason', presence_reason, 'since', to_char(presence_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        FROM came ORDER BY presence_version
    )
    SELECT org_id, id, online, presence_version, presence_at, presence_reason, status FROM came"#;

/// Whether somebody's grace is over: asked without the lock.
pub const ANY_DUE: &str =
    "SELECT EXISTS (SELECT 1 FROM metrics.machines WHERE offline_due_at <= now() AND online)";

/// Turns machines offline whose grace is over, with their events. That it was revoked is the reason, if it was; else what
/// the agent said when it stopped of its own will, during the session that ended last; else how that session ended. Of a
/// machine over HTTP what the mirror noted when it ended the machine's time, else that no report came.
///
/// A machine is offline since it was last known to be there, and not since somebody was sure of it: since its session
/// ended; where that was inferred, or followed from silence, since `$1` seconds before, because its server spoke for it
/// until then; over HTTP since its last report. Never before it was last heard: whoever takes a machine's samples while
/// the news of its connections are lost has heard it after all. Never before it came, so that a machine's changes lie
/// in time as they were decided. The event is of the time at which it is told.
const SET_OFFLINE: &str = r#"
    WITH due AS (
        SELECT m.org_id, m.id,
            CASE WHEN m.revoked_at IS NOT NULL THEN 'revoked' WHEN m.transport = 'HTTP' THEN coalesce(m.offline_reason, 'no report') WHEN m.stopping_at >= last.recorded_at THEN 'clean stop: ' || m.stopping_reason ELSE coalesce(last.reason, 'connection lost') END AS reason,
            greatest(m.presence_at, CASE WHEN m.transport = 'NATS' THEN least(l.last_seen_at, now()) END, coalesce(CASE
                WHEN m.transport = 'HTTP' AND m.offline_reason IS NOT NULL THEN m.offline_due_at
                WHEN m.transport = 'HTTP' THEN l.last_seen_at
                WHEN last.inferred OR last.reason = 'no answer' THEN last.closed_at - make_interval(secs => $1::float8)
                ELSE last.closed_at END, now())) AS since
        FROM (SELECT * FROM metrics.machines WHERE offline_due_at <= now() AND online ORDER BY offline_due_at LIMIT 1000) m
        LEFT JOIN metrics.latest l ON l.org_id = m.org_id AND l.machine_id = m.id
        LEFT JOIN LATERAL (
            SELECT s.recorded_at, s.reason, s.closed_at, s.inferred FROM metrics.sessions s
            WHERE s.org_id = m.org_id AND s.machine_id = m.id ORDER BY s.started_at DESC LIMIT 1
        ) last ON true
    ), went AS (
        UPDATE metrics.machines m
        SET online = false, offline_due_at = NULL, offline_reason = NULL, unstable_until = NULL, presence_at = d.since, presence_reason = d.reason, presence_version = nextval('metrics.presence_version')
        FROM due d
        WHERE m.org_id = d.org_id AND m.id = d.id AND m.online AND m.offline_due_at <= now()
        RETURNING m.org_id, m.id, m.online, m.presence_version, m.presence_at, m.presence_reason, m.status
    ), noted AS (
        INSERT INTO metrics.presence_changes (org_id, machine_id, version, at, online, reason)
        SELECT org_id, id, presence_version, presence_at, online, presence_reason FROM went
    ), told AS (
        INSERT INTO metrics.outbox (id, org_id, noun, verb, subject_id, version, at, data)
        SELECT gen_random_uuid(), org_id, 'machine', 'offline', id, presence_version, now(), jsonb_build_object(
            'online', false, 'reason', presence_reason, 'since', to_char(presence_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        FROM went ORDER BY presence_version
    )
    SELECT org_id, id, online, presence_version, presence_at, presence_reason, status FROM went"#;

/// That somebody watches now; unless nobody did for so long.
const WATCHED: &str = "
    UPDATE metrics.cursors SET moved_at = now() WHERE name = 'watch' AND moved_at >= now() - make_interval(secs => $1::float8)";
/// That somebody watches again.
const WATCHED_AGAIN: &str = "
    INSERT INTO metrics.cursors (name, moved_at) VALUES ('watch', now())
    ON CONFLICT (name) DO UPDATE SET moved_at = excluded.moved_at";
/// Machines over HTTP have so long to report, whatever was left to them; not those that nobody is to hear. Their rows are locked by key, as by all others.
const SPARE: &str = "
    WITH late AS (
        SELECT org_id, id FROM metrics.machines
        WHERE transport = 'HTTP' AND online AND offline_reason IS NULL AND offline_due_at < now() + make_interval(secs => $1::float8)
        ORDER BY org_id, id FOR NO KEY UPDATE
    )
    UPDATE metrics.machines m SET offline_due_at = greatest(m.offline_due_at, now() + make_interval(secs => $1::float8))
    FROM late WHERE m.org_id = late.org_id AND m.id = late.id";

/// Presence that changed after a version, in the order of commit.
pub const CHANGES: &str = "SELECT org_id, id, online, presence_version FROM metrics.machines WHERE presence_version > $1 ORDER BY presence_version LIMIT $2";

/// How many machines are online.
const COUNT_ONLINE: &str = "SELECT count(*) FROM metrics.machines WHERE online";

/// A machine that came online or went offline.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // columns of `metrics.machines`
pub struct PresenceChange {
    pub org_id: Uuid,
    pub id: Uuid,
    pub online: bool,
    pub presence_version: i64,
    pub presence_at: DateTime<Utc>,
    pub presence_reason: String,
    pub status: String,
}

/// Waits for its turn to decide; the turn ends with the transaction.
///
/// # Errors
/// [`sqlx::Error`], for group commits.
pub async fn lock_in_tx(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK).execute(connection).await?;
    Ok(())
}

/// Decides about machines whose sessions changed; gives those that came online. Under the lock.
///
/// # Errors
/// [`sqlx::Error`], for group commits.
pub async fn decide_in_tx(
    connection: &mut PgConnection,
    machines: &[(OrgId, MachineId)],
    graces: Graces,
) -> Result<Vec<PresenceChange>, sqlx::Error> {
    let (orgs, ids): (Vec<_>, Vec<_>) = machines
        .iter()
        .map(|(org, machine)| (org.0, machine.0))
        .unzip();
    sqlx::query_as(DECIDE)
        .bind(orgs)
        .bind(ids)
        .bind(graces.client.as_secs_f64())
        .bind(graces.server.as_secs_f64())
        .bind(graces.unstable.as_secs_f64())
        .bind(graces.damping.changes)
        .bind(graces.damping.within.as_secs_f64())
        .fetch_all(connection)
        .await
}

/// Whether somebody's grace is over.
///
/// # Errors
/// [`DatabaseError`].
pub async fn any_due(pool: &PgPool) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(ANY_DUE).fetch_one(pool).await?)
}

/// Notes that somebody watches; `false` when nobody did for `outage`, and then notes nothing.
///
/// # Errors
/// [`DatabaseError`].
pub async fn watched(
    executor: impl PgExecutor<'_>,
    outage: Duration,
) -> Result<bool, DatabaseError> {
    let noted = sqlx::query(WATCHED)
        .bind(outage.as_secs_f64())
        .execute(executor)
        .await?;
    Ok(noted.rows_affected() > 0)
}

/// Notes that somebody watches again, and gives machines over HTTP at least so long to report; says how many had less.
/// Under the lock.
///
/// # Errors
/// [`DatabaseError`].
pub async fn watched_again_in_tx(
    connection: &mut PgConnection,
    http_return: Duration,
) -> Result<u64, DatabaseError> {
    let spared = sqlx::query(SPARE)
        .bind(http_return.as_secs_f64())
        .execute(&mut *connection)
        .await?;
    sqlx::query(WATCHED_AGAIN).execute(connection).await?;
    Ok(spared.rows_affected())
}

/// Turns machines offline whose grace is over. Who fell silent was there until it was last heard, which is at most
/// `silence` before that was noticed. Under the lock.
///
/// # Errors
/// [`DatabaseError`].
pub async fn set_offline_in_tx(
    connection: &mut PgConnection,
    silence: Duration,
) -> Result<Vec<PresenceChange>, DatabaseError> {
    Ok(sqlx::query_as(SET_OFFLINE)
        .bind(silence.as_secs_f64())
        .fetch_all(connection)
        .await?)
}

/// Presence that changed after a version: organisation, machine, whether online, version.
///
/// # Errors
/// [`DatabaseError`].
pub async fn changes(
    pool: &PgPool,
    after: i64,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid, bool, i64)>, DatabaseError> {
    Ok(sqlx::query_as(CHANGES)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await?)
}

/// How many machines are online.
///
/// # Errors
/// [`DatabaseError`].
pub async fn count_online(pool: &PgPool) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(COUNT_ONLINE).fetch_one(pool).await?)
}

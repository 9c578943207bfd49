//! The mirror of machines and their presence, and the cursors of both feeds.

use chrono::{DateTime, Utc};
use contract::legacy::LegacyBinding;
use contract::metrics::Transport;
use database::{DatabaseError, Tx};
use domain::{MachineId, OrgId};
use sqlx::PgPool;
use uuid::Uuid;

use crate::store::ended::Ended;
use crate::store::sync;

const CURSOR_GET: &str = "SELECT position FROM action.cursors WHERE feed = $1";

const CURSOR_SET: &str = "
    INSERT INTO action.cursors (feed, position) VALUES ($1, $2)
    ON CONFLICT (feed) DO UPDATE SET position = greatest(cursors.position, excluded.position)";

/// A release clears what quarantined the machine before; its journal is believed anew.
const MIRROR: &str = "
    INSERT INTO action.machines AS machine (org_id, id, fingerprint, change, releases, revoked_at, quarantined_at, quarantine_reason,
        transport, http_name, bound_key, bound_block)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT ON CONSTRAINT machines_pkey DO UPDATE SET
        change = excluded.change,
        revoked_at = excluded.revoked_at,
        quarantined_at = CASE WHEN excluded.releases > machine.releases OR machine.quarantine_reported
            THEN excluded.quarantined_at ELSE machine.quarantined_at END,
        quarantine_reason = CASE WHEN excluded.releases > machine.releases OR machine.quarantine_reported
            THEN excluded.quarantine_reason ELSE machine.quarantine_reason END,
        quarantine_reported = machine.quarantine_reported OR excluded.releases > machine.releases,
        journal_id = CASE WHEN excluded.releases > machine.releases THEN NULL ELSE machine.journal_id END,
        session_id = CASE WHEN excluded.releases > machine.releases THEN NULL ELSE machine.session_id END,
        suspect_session = CASE WHEN excluded.releases > machine.releases THEN NULL ELSE machine.suspect_session END,
        suspect_echo = CASE WHEN excluded.releases > machine.releases THEN NULL ELSE machine.suspect_echo END,
        releases = excluded.releases,
        bound_key = excluded.bound_key,
        bound_block = excluded.bound_block
    WHERE machine.change < excluded.change";

const FORGET_SESSIONS: &str =
    "DELETE FROM action.superseded_sessions WHERE org_id = $1 AND machine_id = $2";

const RELEASES: &str =
    "SELECT releases FROM action.machines WHERE org_id = $1 AND id = $2 FOR UPDATE";

/// A revoked machine's actions: those it never saw are CANCELLED, of the others nobody will know.
const END_REVOKED: &str = "
    UPDATE action.actions SET
        status = CASE WHEN offered_at IS NULL THEN 'CANCELLED' ELSE 'UNKNOWN' END,
        finished_at = $3, ring_at = NULL, version = version + 1,
        error = jsonb_build_object('code', 'machine-revoked', 'message', 'the machine was revoked')
    WHERE org_id = $1 AND machine_id = $2 AND status IN ('QUEUED', 'DELIVERED', 'RUNNING')
    RETURNING org_id, id, machine_id, kind, status, version, late";

/// Whether something can be offered to it: a machine over HTTP asks, and is offered nothing before.
const PRESENCE: &str = "
    UPDATE action.machines SET online = $3, presence_version = $4
    WHERE org_id = $1 AND id = $2 AND presence_version < $4
    RETURNING revoked_at IS NULL AND quarantined_at IS NULL AND transport = 'NATS' AS trusted";

/// What waits for a machine that is connected now is offered, in the order of `seq`. Of much the first: the agent
/// that sees them asks for the rest.
const OFFER: &str = "
    UPDATE action.actions SET offered_at = $3, ring_at = $3
    WHERE org_id = $1 AND id IN (
        SELECT id FROM action.actions
        WHERE org_id = $1 AND machine_id = $2 AND status = 'QUEUED' AND offered_at IS NULL AND not_after > $3
        ORDER BY seq LIMIT 100 FOR NO KEY UPDATE)";

const SILENCE: &str = "
    UPDATE action.actions SET ring_at = NULL
    WHERE org_id = $1 AND machine_id = $2 AND status IN ('QUEUED', 'DELIVERED', 'RUNNING') AND ring_at IS NOT NULL";

const EXISTS: &str =
    "SELECT true FROM action.machines WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL";

const QUARANTINES: &str = "
    SELECT org_id, id, quarantine_reason FROM action.machines WHERE NOT quarantine_reported ORDER BY org_id, id LIMIT 100";

const QUARANTINE_REPORTED: &str = "
    UPDATE action.machines SET quarantine_reported = true WHERE org_id = $1 AND id = $2";

/// How far a feed has been read; 0 at first.
///
/// # Errors
/// [`DatabaseError`].
pub async fn cursor_get(pool: &PgPool, feed: &str) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(CURSOR_GET)
        .bind(feed)
        .fetch_optional(pool)
        .await?
        .unwrap_or(0))
}

/// Notes how far a feed has been read.
///
/// # Errors
/// [`DatabaseError`].
pub async fn cursor_set_in_tx(tx: &mut Tx, feed: &str, position: i64) -> Result<(), DatabaseError> {
    sqlx::query(CURSOR_SET)
        .bind(feed)
        .bind(position)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A machine as identity says it is.
#[derive(Debug)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Mirrored {
    pub org: OrgId,
    pub machine: MachineId,
    pub fingerprint: String,
    pub change: i64,
    pub releases: i32,
    pub revoked_at: Option<DateTime<Utc>>,
    pub quarantined_at: Option<DateTime<Utc>>,
    pub quarantine_reason: Option<String>,
    pub transport: Transport,
    pub legacy: Option<LegacyBinding>,
}

/// What writing a machine brought about.
#[derive(Debug, Default)]
pub struct Mirroring {
    /// Actions that ended with it.
    pub ended: Vec<Ended>,
    /// The machine was released from quarantine: it should ask what waits for it.
    pub released: bool,
}

/// Writes a machine as it is now; an older change than the one known changes nothing. Whoever is revoked loses its
/// open actions; whoever is released, those that it had been offered.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_mirror_in_tx(
    tx: &mut Tx,
    machine: &Mirrored,
    now: DateTime<Utc>,
) -> Result<Mirroring, DatabaseError> {
    let (org, id) = (machine.org.0, machine.machine.0);
    let legacy = machine.legacy.as_ref();
    let releases: Option<i32> = sqlx::query_scalar(RELEASES)
        .bind(org)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    sqlx::query(MIRROR)
        .bind(org)
        .bind(id)
        .bind(&machine.fingerprint)
        .bind(machine.change)
        .bind(machine.releases)
        .bind(machine.revoked_at)
        .bind(machine.quarantined_at)
        .bind(&machine.quarantine_reason)
        .bind(machine.transport.as_str())
        .bind(legacy.map(|legacy| legacy.name.as_str()))
        .bind(legacy.map(|legacy| legacy.key.0))
        .bind(legacy.map(|legacy| legacy.block.as_str()))
        .execute(&mut **tx)
        .await?;
    // A machine over HTTP has no journal that could be an older one, and asks without being told to.
    let released = machine.transport == Transport::Nats
        && releases.is_some_and(|known| known < machine.releases);
    let mut ended = Vec::new();
    if released {
        sqlx::query(FORGET_SESSIONS)
            .bind(org)
            .bind(id)
            .execute(&mut **tx)
            .await?;
        // The journal that comes now may be older than what it was offered: nothing of that is offered again.
        ended = sync::actions_forgotten_in_tx(tx, machine.org, machine.machine, now).await?;
    }
    if machine.revoked_at.is_some() {
        let of_revoked: Vec<Ended> = sqlx::query_as(END_REVOKED)
            .bind(org)
            .bind(id)
            .bind(now)
            .fetch_all(&mut **tx)
            .await?;
        ended.extend(of_revoked);
    }
    Ok(Mirroring { ended, released })
}

/// Notes that a machine came or went. Says whether something was offered that is to be rung now.
///
/// # Errors
/// [`DatabaseError`].
pub async fn presence_set_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    online: bool,
    version: i64,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let trusted: Option<bool> = sqlx::query_scalar(PRESENCE)
        .bind(org.0)
        .bind(machine.0)
        .bind(online)
        .bind(version)
        .fetch_optional(&mut **tx)
        .await?;
    match (trusted, online) {
        (Some(true), true) => {
            let offered = sqlx::query(OFFER)
                .bind(org.0)
                .bind(machine.0)
                .bind(now)
                .execute(&mut **tx)
                .await?;
            Ok(offered.rows_affected() > 0)
        }
        (Some(_), false) => {
            sqlx::query(SILENCE)
                .bind(org.0)
                .bind(machine.0)
                .execute(&mut **tx)
                .await?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Whether the mirror has this machine, and it is not revoked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_known(
    pool: &PgPool,
    org: OrgId,
    machine: MachineId,
) -> Result<bool, DatabaseError> {
    let known: Option<bool> = sqlx::query_scalar(EXISTS)
        .bind(org.0)
        .bind(machine.0)
        .fetch_optional(pool)
        .await?;
    Ok(known.is_some())
}

/// Quarantines that identity has not acknowledged yet.
///
/// # Errors
/// [`DatabaseError`].
pub async fn quarantines_unreported(
    pool: &PgPool,
) -> Result<Vec<(Uuid, Uuid, Option<String>)>, DatabaseError> {
    Ok(sqlx::query_as(QUARANTINES).fetch_all(pool).await?)
}

/// Identity has acknowledged a quarantine.
///
/// # Errors
/// [`DatabaseError`].
pub async fn quarantine_reported(
    pool: &PgPool,
    org: OrgId,
    machine: MachineId,
) -> Result<(), DatabaseError> {
    sqlx::query(QUARANTINE_REPORTED)
        .bind(org.0)
        .bind(machine.0)
        .execute(pool)
        .await?;
    Ok(())
}

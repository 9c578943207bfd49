//! What a machine's journal says, and what it is offered, under the machine's row lock.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};
use domain::{JournalId, MachineId, OrgId, SessionId};
use uuid::Uuid;

use crate::store::ended::Ended;
use crate::store::row::ActionRow;

/// How many replaced lives of a machine are remembered.
const SUPERSEDED_KEPT: i64 = 256;

const LOCK: &str = "
    SELECT fingerprint, revoked_at IS NOT NULL AS revoked, quarantine_reason, quarantined_at IS NOT NULL AS quarantined,
        last_seq, journal_id, journal_entries, journal_head, session_id, suspect_session, suspect_echo
    FROM action.machines WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE";

const SUPERSEDED: &str = "
    SELECT true FROM action.superseded_sessions WHERE org_id = $1 AND machine_id = $2 AND session_id = $3";

const SUPERSEDE: &str = "
    INSERT INTO action.superseded_sessions (org_id, machine_id, session_id, superseded_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT ON CONSTRAINT superseded_sessions_pkey DO NOTHING";

const BELIEVE: &str = "
    UPDATE action.machines SET journal_id = $3, journal_entries = $4, journal_head = $5, session_id = $6,
        synced_at = $7, online = true
    WHERE org_id = $1 AND id = $2";

const RAISE_SEQ: &str = "
    UPDATE action.machines SET last_seq = $3 WHERE org_id = $1 AND id = $2 AND last_seq < $3";

/// The most replaced lives that are remembered of a machine: the latest.
const FORGET_SUPERSEDED: &str = "
    DELETE FROM action.superseded_sessions WHERE org_id = $1 AND machine_id = $2 AND session_id IN (
        SELECT session_id FROM action.superseded_sessions WHERE org_id = $1 AND machine_id = $2
        ORDER BY superseded_at DESC OFFSET $3)";

const SUSPECT: &str = "
    UPDATE action.machines SET suspect_session = $3, suspect_echo = $4 WHERE org_id = $1 AND id = $2";

const QUARANTINE: &str = "
    UPDATE action.machines SET quarantined_at = $3, quarantine_reason = $4, quarantine_reported = false,
        suspect_session = NULL, suspect_echo = NULL
    WHERE org_id = $1 AND id = $2 AND quarantined_at IS NULL";

/// The journal is new, or cannot be trusted to be whole: of what it was offered nobody will know.
const FORGOTTEN: &str = "
    UPDATE action.actions SET status = 'UNKNOWN', finished_at = $3, ring_at = NULL, version = version + 1,
        error = jsonb_build_object('code', 'journal-lost', 'message', 'the machine no longer has the journal that knew of this action')
    WHERE org_id = $1 AND machine_id = $2 AND status IN ('QUEUED', 'DELIVERED', 'RUNNING') AND offered_at IS NOT NULL
    RETURNING org_id, id, machine_id, kind, status, version, late";

/// What was never offered and is too late now.
const EXPIRE: &str = "
    UPDATE action.actions SET status = 'EXPIRED', finished_at = $3, ring_at = NULL, version = version + 1
    WHERE org_id = $1 AND machine_id = $2 AND status = 'QUEUED' AND offered_at IS NULL AND not_after <= $3
    RETURNING org_id, id, machine_id, kind, status, version, late";

/// Open actions: those after the place that the machine knows, and before it those it is to hear of again. Locked, so
/// that nobody ends one between here and the offer: who is asked to execute it must not read CANCELLED.
const OPEN: &str = "
    SELECT * FROM action.actions
    WHERE org_id = $1 AND machine_id = $2 AND status IN ('QUEUED', 'DELIVERED', 'RUNNING')
        AND (seq > $3 OR status = 'QUEUED' AND attempt > 1 OR cancel_requested_at IS NOT NULL)
    ORDER BY seq LIMIT $4 FOR NO KEY UPDATE";

const OFFERED: &str = "
    UPDATE action.actions SET offered_at = $3, ring_at = $3::timestamptz + interval '5 seconds', rings = 1
    WHERE org_id = $1 AND id = ANY($2) AND offered_at IS NULL";

/// What is known of a machine.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Known {
    pub fingerprint: String,
    pub revoked: bool,
    pub quarantined: bool,
    pub quarantine_reason: Option<String>,
    pub last_seq: i64,
    pub journal_id: Option<Uuid>,
    pub journal_entries: i64,
    pub journal_head: String,
    pub session_id: Option<Uuid>,
    pub suspect_session: Option<Uuid>,
    pub suspect_echo: Option<Uuid>,
}

/// What is known of a machine, locked until the transaction ends.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_lock_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
) -> Result<Option<Known>, DatabaseError> {
    Ok(sqlx::query_as(LOCK)
        .bind(org.0)
        .bind(machine.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Whether another life has replaced this one.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_superseded_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    session: SessionId,
) -> Result<bool, DatabaseError> {
    let known: Option<bool> = sqlx::query_scalar(SUPERSEDED)
        .bind(org.0)
        .bind(machine.0)
        .bind(session.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(known.is_some())
}

/// Notes that another life has replaced this one; of very many the oldest are forgotten.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_supersede_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    session: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    sqlx::query(SUPERSEDE)
        .bind(org.0)
        .bind(machine.0)
        .bind(session)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    sqlx::query(FORGET_SUPERSEDED)
        .bind(org.0)
        .bind(machine.0)
        .bind(SUPERSEDED_KEPT)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Goes on counting places where the machine does: it knows one that we do not.
///
/// # Errors
/// [`DatabaseError`].
pub async fn seq_raise_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    seq: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(RAISE_SEQ)
        .bind(org.0)
        .bind(machine.0)
        .bind(seq)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes what a journal says as the state of the machine, which is connected.
///
/// # Errors
/// [`DatabaseError`].
#[allow(clippy::too_many_arguments)] // the columns of one row
pub async fn journal_believe_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    journal: JournalId,
    entries: i64,
    head: &str,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    sqlx::query(BELIEVE)
        .bind(org.0)
        .bind(machine.0)
        .bind(journal.0)
        .bind(entries)
        .bind(head)
        .bind(session.0)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Remembers which life must prove that it is alive, and by which word.
///
/// # Errors
/// [`DatabaseError`].
pub async fn session_suspect_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    session: SessionId,
    echo: Uuid,
) -> Result<(), DatabaseError> {
    sqlx::query(SUSPECT)
        .bind(org.0)
        .bind(machine.0)
        .bind(session.0)
        .bind(echo)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Quarantines a machine; identity is told later.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_quarantine_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    sqlx::query(QUARANTINE)
        .bind(org.0)
        .bind(machine.0)
        .bind(now)
        .bind(reason)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends what a lost journal had been offered.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_forgotten_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    now: DateTime<Utc>,
) -> Result<Vec<Ended>, DatabaseError> {
    Ok(sqlx::query_as(FORGOTTEN)
        .bind(org.0)
        .bind(machine.0)
        .bind(now)
        .fetch_all(&mut **tx)
        .await?)
}

/// Ends what was never offered and is too late.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_expire_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    now: DateTime<Utc>,
) -> Result<Vec<Ended>, DatabaseError> {
    Ok(sqlx::query_as(EXPIRE)
        .bind(org.0)
        .bind(machine.0)
        .bind(now)
        .fetch_all(&mut **tx)
        .await?)
}

/// Open actions of a machine that knows everything up to `after`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_open_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    after: i64,
    limit: i64,
) -> Result<Vec<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(OPEN)
        .bind(org.0)
        .bind(machine.0)
        .bind(after)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// Notes that these are offered.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_offered_in_tx(
    tx: &mut Tx,
    org: OrgId,
    actions: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    sqlx::query(OFFERED)
        .bind(org.0)
        .bind(actions)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

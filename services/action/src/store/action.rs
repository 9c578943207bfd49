//! Actions of one organisation, in its tenant transaction.

use chrono::{DateTime, Utc};
use database::{AuditRow, DatabaseError, Tx};
use domain::action::OPEN_MAX;
use domain::{ActionId, MachineId, OrgId};
use serde_json::Value;
use uuid::Uuid;

use crate::store::row::ActionRow;

/// `seq` is taken under the machine's row lock. `offered_at` is committed here when the machine is connected, so
/// that nothing is pushed before it; a machine over HTTP asks (`store::legacy`), and knows no `ping`. What the audit is
/// told of it is part of the same statement: it costs no round trip.
const CREATE: &str = "
    WITH machine AS (
        UPDATE action.machines SET last_seq = last_seq + 1
        WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL AND (transport = 'NATS' OR $4 <> 'ping') AND NOT EXISTS (
            SELECT 1 FROM action.actions AS open
            WHERE open.org_id = $1 AND open.machine_id = $2 AND open.status IN ('QUEUED', 'DELIVERED', 'RUNNING') OFFSET $12::bigint - 1)
        RETURNING last_seq, online AND quarantined_at IS NULL AND transport = 'NATS' AS offer, fingerprint
    ), created AS (
        INSERT INTO action.actions (org_id, id, machine_id, seq, kind, payload, idempotent, status, principal,
            traceparent, not_after, give_up_at, created_at, offered_at, ring_at)
        SELECT $1, $3, $2, last_seq, $4, $5, $6, 'QUEUED', $7, $8, $9, $10, $11::timestamptz,
            CASE WHEN offer THEN $11::timestamptz END,
            CASE WHEN offer THEN $11::timestamptz + interval '1 second' END
        FROM machine
        RETURNING *
    ), noted AS (
        INSERT INTO action.audit_outbox (id, org_id, entry) SELECT $13::uuid, $1, $14::text FROM machine
    )
    SELECT created.*, machine.fingerprint FROM created, machine";

const MACHINE_STANDING: &str = "
    SELECT revoked_at IS NOT NULL, transport = 'HTTP' FROM action.machines WHERE org_id = $1 AND id = $2";

const GET: &str = "SELECT * FROM action.actions WHERE org_id = $1 AND id = $2";

const GET_FOR_UPDATE: &str =
    "SELECT * FROM action.actions WHERE org_id = $1 AND id = $2 FOR UPDATE";

const LIST: &str = "
    SELECT * FROM action.actions WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

const LIST_OF_MACHINE: &str = "
    SELECT * FROM action.actions WHERE org_id = $1 AND machine_id = $4 AND id < $2 ORDER BY id DESC LIMIT $3";

const LIST_IN_STATUS: &str = "
    SELECT * FROM action.actions WHERE org_id = $1 AND status = $4 AND id < $2 ORDER BY id DESC LIMIT $3";

const LIST_OF_MACHINE_IN_STATUS: &str = "
    SELECT * FROM action.actions WHERE org_id = $1 AND machine_id = $4 AND status = $5 AND id < $2
    ORDER BY id DESC LIMIT $3";

const CANCEL_NOW: &str = "
    UPDATE action.actions SET status = 'CANCELLED', finished_at = $3, cancel_requested_at = $3, version = version + 1
    WHERE org_id = $1 AND id = $2 AND status = 'QUEUED' AND offered_at IS NULL
    RETURNING *";

/// What was handed out under a lease is not handed out again: after one more lease without a report nothing is hoped for.
const CANCEL_REQUEST: &str = "
    UPDATE action.actions
    SET cancel_requested_at = $3, version = version + 1, ring_at = $3::timestamptz + interval '1 second', rings = 0,
        give_up_at = CASE WHEN lease_until IS NULL THEN give_up_at
            ELSE least(give_up_at, lease_until + (lease_until - delivered_at)) END
    WHERE org_id = $1 AND id = $2 AND cancel_requested_at IS NULL
    RETURNING *";

const FINGERPRINT: &str = "SELECT fingerprint FROM action.machines WHERE org_id = $1 AND id = $2";

/// What is to be created, for one machine or for many.
#[derive(Debug)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct NewAction<'a> {
    pub kind: &'a str,
    pub payload: &'a Value,
    pub idempotent: bool,
    pub principal: Uuid,
    pub traceparent: Option<&'a str>,
    pub not_after: DateTime<Utc>,
    pub give_up_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// What was created, and the fingerprint of the machine's key, to sign the order.
#[derive(Debug, sqlx::FromRow)]
pub struct Created {
    /// The action.
    #[sqlx(flatten)]
    pub action: ActionRow,
    /// The machine's.
    pub fingerprint: String,
}

/// Creates an action, and notes it for the audit; `None` when the organisation has no such machine, it is revoked, or it has [`OPEN_MAX`] actions that
/// have not ended.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_create_in_tx(
    tx: &mut Tx,
    machine: MachineId,
    id: ActionId,
    new: &NewAction<'_>,
    noted: &AuditRow,
) -> Result<Option<Created>, DatabaseError> {
    Ok(sqlx::query_as(CREATE)
        .bind(noted.org.0)
        .bind(machine.0)
        .bind(id.0)
        .bind(new.kind)
        .bind(new.payload)
        .bind(new.idempotent)
        .bind(new.principal)
        .bind(new.traceparent)
        .bind(new.not_after)
        .bind(new.give_up_at)
        .bind(new.created_at)
        .bind(OPEN_MAX)
        .bind(noted.id)
        .bind(&noted.entry)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Whether a machine is revoked, and whether it is one over HTTP; `None` when the organisation has no such machine.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_standing_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
) -> Result<Option<(bool, bool)>, DatabaseError> {
    Ok(sqlx::query_as(MACHINE_STANDING)
        .bind(org.0)
        .bind(machine.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// An action.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    action: ActionId,
) -> Result<Option<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(GET)
        .bind(org.0)
        .bind(action.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// An action, locked until the transaction ends.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_lock_in_tx(
    tx: &mut Tx,
    org: OrgId,
    action: ActionId,
) -> Result<Option<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(GET_FOR_UPDATE)
        .bind(org.0)
        .bind(action.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// A page of actions, newest first, of ids below `before`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_list_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: Option<MachineId>,
    status: Option<&str>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<ActionRow>, DatabaseError> {
    let sql = match (machine, status) {
        (None, None) => LIST,
        (Some(_), None) => LIST_OF_MACHINE,
        (None, Some(_)) => LIST_IN_STATUS,
        (Some(_), Some(_)) => LIST_OF_MACHINE_IN_STATUS,
    };
    let mut query = sqlx::query_as(sql).bind(org.0).bind(before).bind(limit);
    if let Some(machine) = machine {
        query = query.bind(machine.0);
    }
    if let Some(status) = status {
        query = query.bind(status);
    }
    Ok(query.fetch_all(&mut **tx).await?)
}

/// Ends an action that was never offered; `None` when it was, or has ended.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_cancel_now_in_tx(
    tx: &mut Tx,
    org: OrgId,
    action: ActionId,
    now: DateTime<Utc>,
) -> Result<Option<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(CANCEL_NOW)
        .bind(org.0)
        .bind(action.0)
        .bind(now)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Notes that somebody wants an offered action not to begin; `None` when that was noted before.
///
/// # Errors
/// [`DatabaseError`].
pub async fn action_cancel_request_in_tx(
    tx: &mut Tx,
    org: OrgId,
    action: ActionId,
    now: DateTime<Utc>,
) -> Result<Option<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(CANCEL_REQUEST)
        .bind(org.0)
        .bind(action.0)
        .bind(now)
        .fetch_optional(&mut **tx)
        .await?)
}

/// The fingerprint of a machine's key.
///
/// # Errors
/// [`DatabaseError`].
pub async fn fingerprint_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
) -> Result<Option<String>, DatabaseError> {
    Ok(sqlx::query_scalar(FINGERPRINT)
        .bind(org.0)
        .bind(machine.0)
        .fetch_optional(&mut **tx)
        .await?)
}

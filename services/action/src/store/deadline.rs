//! What time does: expiry, giving up, ringing again, forgetting. Any replica, in small locked portions.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};

use crate::store::ended::Ended;
use crate::store::row::ActionRow;

/// The server itself says EXPIRED only where nothing was offered.
const EXPIRE: &str = "
    UPDATE action.actions SET status = 'EXPIRED', finished_at = $1, ring_at = NULL, version = version + 1
    WHERE (org_id, id) IN (
        SELECT org_id, id FROM action.actions
        WHERE status = 'QUEUED' AND offered_at IS NULL AND not_after <= $1
        ORDER BY not_after LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING org_id, id, machine_id, kind, status, version, late";

/// Past notAfter + run time + grace without a word.
const GIVE_UP: &str = "
    UPDATE action.actions SET status = 'UNKNOWN', finished_at = $1, ring_at = NULL, version = version + 1,
        error = jsonb_build_object('code', 'no-word', 'message', 'the machine did not say within the time that it had')
    WHERE (org_id, id) IN (
        SELECT org_id, id FROM action.actions
        WHERE status IN ('QUEUED', 'DELIVERED', 'RUNNING') AND offered_at IS NOT NULL AND give_up_at <= $1
        ORDER BY give_up_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING org_id, id, machine_id, kind, status, version, late";

/// 1, 5 and 25 seconds after the offer; then the machine's own regular sync has to find it.
const RING: &str = "
    WITH due AS (
        SELECT org_id, id FROM action.actions
        WHERE ring_at <= $1 ORDER BY ring_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), rung AS (
        UPDATE action.actions AS action SET rings = action.rings + 1,
            ring_at = CASE action.rings WHEN 0 THEN $1 + interval '4 seconds' WHEN 1 THEN $1 + interval '20 seconds' END
        FROM due WHERE action.org_id = due.org_id AND action.id = due.id
        RETURNING action.*
    )
    SELECT rung.*, machine.fingerprint
    FROM rung JOIN action.machines AS machine ON machine.org_id = rung.org_id AND machine.id = rung.machine_id
    WHERE machine.online AND machine.transport = 'NATS' AND machine.quarantined_at IS NULL AND machine.revoked_at IS NULL
        AND rung.status IN ('QUEUED', 'DELIVERED', 'RUNNING') AND rung.offered_at IS NOT NULL
        AND (rung.status = 'QUEUED' OR rung.cancel_requested_at IS NOT NULL)
    ORDER BY rung.org_id, rung.machine_id, rung.seq";

const FORGET_KEYS: &str = "DELETE FROM action.idempotency_keys WHERE created_at < $1";

const FORGET_SESSIONS: &str = "DELETE FROM action.superseded_sessions WHERE superseded_at < $1";

/// An action to ring for.
#[derive(Debug, sqlx::FromRow)]
pub struct Due {
    /// The action.
    #[sqlx(flatten)]
    pub action: ActionRow,
    /// The fingerprint of its machine's key.
    pub fingerprint: String,
}

/// Ends what expired before it was offered; at most `limit`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_expire_in_tx(
    tx: &mut Tx,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Ended>, DatabaseError> {
    Ok(sqlx::query_as(EXPIRE)
        .bind(now)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// Gives up what is overdue; at most `limit`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_give_up_in_tx(
    tx: &mut Tx,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Ended>, DatabaseError> {
    Ok(sqlx::query_as(GIVE_UP)
        .bind(now)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// What is to be rung now; at most `limit`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_ring_in_tx(
    tx: &mut Tx,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Due>, DatabaseError> {
    Ok(sqlx::query_as(RING)
        .bind(now)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

/// Forgets idempotency keys and sessions of before these times; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn forget_in_tx(
    tx: &mut Tx,
    keys_before: DateTime<Utc>,
    sessions_before: DateTime<Utc>,
) -> Result<u64, DatabaseError> {
    let keys = sqlx::query(FORGET_KEYS)
        .bind(keys_before)
        .execute(&mut **tx)
        .await?;
    let sessions = sqlx::query(FORGET_SESSIONS)
        .bind(sessions_before)
        .execute(&mut **tx)
        .await?;
    Ok(keys.rows_affected() + sessions.rows_affected())
}

//! Machines over HTTP, by name, and what they are handed: under the machine's row lock, leased.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};
use domain::action::{ActionKind, HANDOUTS_MAX};
use domain::{ActionId, CredentialId, MachineId, OrgId};
use uuid::Uuid;

use crate::store::row::ActionRow;

const BY_NAME: &str = "
    SELECT id, http_name, bound_key, bound_block, revoked_at IS NOT NULL AS revoked, quarantined_at IS NOT NULL AS quarantined
    FROM action.machines WHERE org_id = $1 AND http_name = $2";

/// The machine of an action that was handed out, and the attempt that it is in.
const OF_ACTION: &str = "
    SELECT m.id, m.http_name, m.bound_key, m.bound_block, m.revoked_at IS NOT NULL AS revoked,
        m.quarantined_at IS NOT NULL AS quarantined, a.attempt
    FROM action.actions AS a JOIN action.machines AS m ON m.org_id = a.org_id AND m.id = a.machine_id
    WHERE a.org_id = $1 AND a.id = $2 AND a.offered_at IS NOT NULL AND m.transport = 'HTTP'";

/// Two questions of one machine at once: the second one sees what the first was handed.
const LOCK: &str = "
    SELECT true FROM action.machines
    WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL AND quarantined_at IS NULL FOR NO KEY UPDATE";

/// What waits, and what was handed out and not reported in time, in the order of `seq`. What somebody wants cancelled is
/// not handed out again. After the last time nothing more is hoped for than a report within one more lease.
const HAND_OUT: &str = "
    WITH lease AS (
        SELECT * FROM unnest($5::text[], $6::float8[]) AS lease (kind, seconds)
    ), due AS (
        SELECT action.id, $3::timestamptz + make_interval(secs => lease.seconds) AS ends,
            make_interval(secs => lease.seconds) AS seconds
        FROM action.actions AS action JOIN lease ON lease.kind = action.kind
        WHERE action.org_id = $1 AND action.machine_id = $2 AND action.status IN ('QUEUED', 'DELIVERED', 'RUNNING')
            AND action.not_after > $3 AND action.cancel_requested_at IS NULL
            AND (action.offered_at IS NULL OR action.lease_until <= $3 AND action.attempt < $7)
        ORDER BY action.seq LIMIT $4 FOR NO KEY UPDATE OF action
    )
    UPDATE action.actions AS action SET
        status = 'DELIVERED',
        attempt = CASE WHEN action.offered_at IS NULL THEN action.attempt ELSE action.attempt + 1 END,
        offered_at = coalesce(action.offered_at, $3),
        delivered_at = $3,
        lease_until = due.ends,
        give_up_at = CASE WHEN action.offered_at IS NOT NULL AND action.attempt + 1 >= $7
            THEN least(action.give_up_at, due.ends + due.seconds) ELSE action.give_up_at END,
        version = action.version + 1
    FROM due WHERE action.org_id = $1 AND action.id = due.id
    RETURNING action.*";

/// A machine over HTTP.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct LegacyMachine {
    pub id: Uuid,
    pub http_name: String,
    pub bound_key: Option<Uuid>,
    pub bound_block: Option<String>,
    pub revoked: bool,
    pub quarantined: bool,
}

impl LegacyMachine {
    /// Whether it may speak, when it comes with this key from this block.
    #[must_use]
    pub fn is_bound(&self, key: CredentialId, block: &str) -> bool {
        !self.revoked
            && !self.quarantined
            && self.bound_key == Some(key.0)
            && self.bound_block.as_deref() == Some(block)
    }
}

/// A machine and the attempt of one of its actions.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OfAction {
    /// The machine.
    #[sqlx(flatten)]
    pub machine: LegacyMachine,
    /// The attempt.
    pub attempt: i32,
}

/// The machine over HTTP of this name. An enrolled machine has no such name, whatever it is called.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_by_name_in_tx(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
) -> Result<Option<LegacyMachine>, DatabaseError> {
    Ok(sqlx::query_as(BY_NAME)
        .bind(org.0)
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?)
}

/// The machine over HTTP that was handed this action.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_of_action_in_tx(
    tx: &mut Tx,
    org: OrgId,
    action: ActionId,
) -> Result<Option<OfAction>, DatabaseError> {
    Ok(sqlx::query_as(OF_ACTION)
        .bind(org.0)
        .bind(action.0)
        .fetch_optional(&mut **tx)
        .await?)
}

/// Waits for this machine's turn; `false` when it may not speak any more.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machine_lock_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
) -> Result<bool, DatabaseError> {
    let trusted: Option<bool> = sqlx::query_scalar(LOCK)
        .bind(org.0)
        .bind(machine.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(trusted.is_some())
}

/// Hands a machine what it is to do, at most `limit` actions, each leased from now. In the machine's turn.
///
/// # Errors
/// [`DatabaseError`].
pub async fn actions_hand_out_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<ActionRow>, DatabaseError> {
    let kinds = ActionKind::ALL.into_iter().filter(|kind| kind.is_legacy());
    let (names, seconds): (Vec<&str>, Vec<f64>) = kinds
        .map(|kind| (kind.as_str(), kind.lease().num_seconds() as f64))
        .unzip();
    let mut rows: Vec<ActionRow> = sqlx::query_as(HAND_OUT)
        .bind(org.0)
        .bind(machine.0)
        .bind(now)
        .bind(limit)
        .bind(names)
        .bind(seconds)
        .bind(HANDOUTS_MAX)
        .fetch_all(&mut **tx)
        .await?;
    // An update returns rows in the order of its plan.
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

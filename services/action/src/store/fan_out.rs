//! One action for each of many machines of one organisation, in its tenant transaction.

use chrono::{DateTime, Utc};
use contract::action::ActionSummary;
use database::{DatabaseError, Tx};
use domain::action::OPEN_MAX;
use domain::{ActionId, MachineId, OrgId};
use uuid::Uuid;

use crate::error::ActionError;
use crate::store::action::NewAction;
use crate::store::row::unreadable;

const KNOWN: &str = "SELECT count(*) FROM action.machines WHERE org_id = $1 AND id = ANY ($2)";

/// Machines are locked in the order of their ids, so that two fan-outs cannot wait for each other. A statement of its
/// own: the next one then sees each machine as it is under the lock.
const LOCK: &str = "
    SELECT id FROM action.machines WHERE org_id = $1 AND id = ANY ($2) AND revoked_at IS NULL
    ORDER BY id FOR NO KEY UPDATE";

/// For each machine what the creation of a single action does: `seq` is taken under the row's lock, and `offered_at` is
/// committed here when the machine is connected.
const CREATE: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS given (machine_id, action_id)
    ), machine AS (
        UPDATE action.machines AS machine SET last_seq = machine.last_seq + 1
        FROM wanted
        WHERE machine.org_id = $1 AND machine.id = wanted.machine_id AND machine.revoked_at IS NULL
            AND (machine.transport = 'NATS' OR $4 <> 'ping') AND NOT EXISTS (
            SELECT 1 FROM action.actions AS open
            WHERE open.org_id = $1 AND open.machine_id = machine.id AND open.status IN ('QUEUED', 'DELIVERED', 'RUNNING') OFFSET $12::bigint - 1)
        RETURNING machine.id, machine.last_seq,
            machine.online AND machine.quarantined_at IS NULL AND machine.transport = 'NATS' AS offer,
            machine.fingerprint, wanted.action_id
    ), created AS (
        INSERT INTO action.actions (org_id, id, machine_id, seq, kind, payload, idempotent, status, principal,
            traceparent, not_after, give_up_at, created_at, offered_at, ring_at)
        SELECT $1, action_id, id, last_seq, $4, $5, $6, 'QUEUED', $7, $8, $9, $10, $11::timestamptz,
            CASE WHEN offer THEN $11::timestamptz END,
            CASE WHEN offer THEN $11::timestamptz + interval '1 second' END
        FROM machine
    )
    SELECT action_id AS id, id AS machine_id, last_seq AS seq, offer AS offered, fingerprint FROM machine
    ORDER BY action_id";

const SUMMARIES: &str = "
    SELECT id, machine_id, kind, status, seq, not_after, created_at FROM action.actions
    WHERE org_id = $1 AND id = ANY ($2) ORDER BY id";

/// An action that was created, as little of it as is needed to answer and to ring: ten thousand are held at once.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Made {
    pub id: Uuid,
    pub machine_id: Uuid,
    pub seq: i64,
    pub offered: bool,
    pub fingerprint: String,
}

#[derive(Debug, sqlx::FromRow)]
struct Summary {
    id: Uuid,
    machine_id: Uuid,
    kind: String,
    status: String,
    seq: i64,
    not_after: DateTime<Utc>,
    created_at: DateTime<Utc>,
}

/// How many of these machines the mirror has, revoked ones included.
///
/// # Errors
/// [`DatabaseError`].
pub async fn machines_known_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machines: &[Uuid],
) -> Result<usize, DatabaseError> {
    let known: i64 = sqlx::query_scalar(KNOWN)
        .bind(org.0)
        .bind(machines)
        .fetch_one(&mut **tx)
        .await?;
    Ok(usize::try_from(known).unwrap_or_default())
}

/// Creates an action for each machine, with the id beside it, in the order of the actions' ids. A machine that the
/// organisation does not have, that is revoked, that does not know the kind (`ping`, over HTTP), or that has [`OPEN_MAX`]
/// actions that have not ended, is left out.
///
/// # Errors
/// [`DatabaseError`]; a collision leaves nothing behind, and the same can be run again.
pub async fn actions_create_in_tx(
    tx: &mut Tx,
    org: OrgId,
    wanted: &[(MachineId, ActionId)],
    new: &NewAction<'_>,
) -> Result<Vec<Made>, DatabaseError> {
    let (machines, actions): (Vec<Uuid>, Vec<Uuid>) = wanted
        .iter()
        .map(|(machine, action)| (machine.0, action.0))
        .unzip();
    sqlx::query(LOCK)
        .bind(org.0)
        .bind(&machines)
        .execute(&mut **tx)
        .await?;
    Ok(sqlx::query_as(CREATE)
        .bind(org.0)
        .bind(machines)
        .bind(actions)
        .bind(new.kind)
        .bind(new.payload)
        .bind(new.idempotent)
        .bind(new.principal)
        .bind(new.traceparent)
        .bind(new.not_after)
        .bind(new.give_up_at)
        .bind(new.created_at)
        .bind(OPEN_MAX)
        .fetch_all(&mut **tx)
        .await?)
}

/// These actions as they are now, in the order of their ids; one that was never created is left out.
///
/// # Errors
/// [`ActionError::Database`]; [`ActionError::Bug`] when a column holds what no service wrote.
pub async fn summaries_in_tx(
    tx: &mut Tx,
    org: OrgId,
    actions: &[Uuid],
) -> Result<Vec<ActionSummary>, ActionError> {
    let rows: Vec<Summary> = sqlx::query_as(SUMMARIES)
        .bind(org.0)
        .bind(actions)
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(Summary::view).collect()
}

impl Summary {
    fn view(self) -> Result<ActionSummary, ActionError> {
        Ok(ActionSummary {
            id: self.id.into(),
            machine_id: self.machine_id.into(),
            kind: self
                .kind
                .parse()
                .map_err(|error: String| unreadable("kind", &error))?,
            status: self
                .status
                .parse()
                .map_err(|error: String| unreadable("status", &error))?,
            seq: self.seq,
            not_after: self.not_after.into(),
            created_at: self.created_at.into(),
        })
    }
}

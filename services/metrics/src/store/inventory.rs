//! What machines are, as their agents say; and of which change nobody was told yet. In transactions across organisations:
//! versions of events come from a sequence that a tenant's role has no part in.

use std::time::Duration;

use database::DatabaseError;
use domain::{MachineId, OrgId};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::store::machine::Standing;

/// What the machine was until now, and whether a change may be told at once. Its row stays locked, so that one change
/// follows another.
const GET: &str = "
    SELECT inventory, inventory_due_at IS NULL AND coalesce(inventory_told_at <= now() - make_interval(secs => $3::float8), true)
    FROM metrics.machines WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL FOR UPDATE";
/// What the machine is, with an event that tells of it now. The version is taken under the machine's row lock, as those of
/// presence are: so the versions of one machine grow in the order of commits.
const SET_TOLD: &str = "
    UPDATE metrics.machines SET inventory = $3, inventory_told_at = now()
    WHERE org_id = $1 AND id = $2 RETURNING nextval('metrics.presence_version')";
/// What the machine is; an event tells of it when its time has come, and of all that changed until then.
const SET_UNTOLD: &str = "
    UPDATE metrics.machines SET inventory = $3, inventory_before = coalesce(inventory_before, inventory),
        inventory_due_at = coalesce(inventory_due_at, inventory_told_at + make_interval(secs => $4::float8))
    WHERE org_id = $1 AND id = $2";
/// Whether the time of somebody's event has come: asked without a lock.
const ANY_DUE: &str =
    "SELECT EXISTS (SELECT 1 FROM metrics.machines WHERE inventory_due_at <= now())";
/// Whose it is. What another transaction holds is left for the next time: so this waits for nobody, in whatever order.
const DUE: &str = "
    SELECT org_id, id, inventory, inventory_before FROM metrics.machines
    WHERE inventory_due_at <= now() ORDER BY inventory_due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED";
/// Its event tells of it now.
const TOLD: &str = "
    UPDATE metrics.machines SET inventory_told_at = now(), inventory_before = NULL, inventory_due_at = NULL
    WHERE org_id = $1 AND id = $2 RETURNING nextval('metrics.presence_version')";
/// Whether there is such a machine in an organisation.
const EXISTS_IN: &str =
    "SELECT EXISTS (SELECT 1 FROM metrics.machines WHERE org_id = $1 AND id = $2)";
/// That a machine of an organisation was heard.
const SET_LAST_SEEN_IN: &str = "
    UPDATE metrics.latest SET last_seen_at = greatest(last_seen_at, now()) WHERE org_id = $1 AND machine_id = $2";

/// A machine of whose change nobody was told yet.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)] // columns of `metrics.machines`
pub struct Untold {
    pub org_id: Uuid,
    pub id: Uuid,
    pub inventory: Value,
    pub inventory_before: Value,
}

/// What a machine was until now, with its row locked, and whether a change may be told at once: one in `pace`. How it
/// stands when it may not speak.
///
/// # Errors
/// [`DatabaseError`].
pub async fn get_in_tx(
    connection: &mut PgConnection,
    org: OrgId,
    machine: MachineId,
    pace: Duration,
) -> Result<Result<(Value, bool), Standing>, DatabaseError> {
    let found: Option<(Value, bool)> = sqlx::query_as(GET)
        .bind(org.0)
        .bind(machine.0)
        .bind(pace.as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(found) = found else {
        let exists: bool = sqlx::query_scalar(EXISTS_IN)
            .bind(org.0)
            .bind(machine.0)
            .fetch_one(connection)
            .await?;
        return Ok(Err(if exists {
            Standing::Revoked
        } else {
            Standing::Unknown
        }));
    };
    sqlx::query(SET_LAST_SEEN_IN)
        .bind(org.0)
        .bind(machine.0)
        .execute(connection)
        .await?;
    Ok(Ok(found))
}

/// Notes what a machine is now, after [`get_in_tx`]; gives the version of the event that tells of it.
///
/// # Errors
/// [`DatabaseError`].
pub async fn set_told_in_tx(
    connection: &mut PgConnection,
    org: OrgId,
    machine: MachineId,
    inventory: &Value,
) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(SET_TOLD)
        .bind(org.0)
        .bind(machine.0)
        .bind(inventory)
        .fetch_one(connection)
        .await?)
}

/// Notes what a machine is now, after [`get_in_tx`]; it is told `pace` after what was told last.
///
/// # Errors
/// [`DatabaseError`].
pub async fn set_untold_in_tx(
    connection: &mut PgConnection,
    org: OrgId,
    machine: MachineId,
    inventory: &Value,
    pace: Duration,
) -> Result<(), DatabaseError> {
    sqlx::query(SET_UNTOLD)
        .bind(org.0)
        .bind(machine.0)
        .bind(inventory)
        .bind(pace.as_secs_f64())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the time of somebody's event has come.
///
/// # Errors
/// [`DatabaseError`].
pub async fn any_due(pool: &PgPool) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(ANY_DUE).fetch_one(pool).await?)
}

/// Machines whose event's time has come, at most `limit`, their rows locked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn due_in_tx(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Untold>, DatabaseError> {
    Ok(sqlx::query_as(DUE)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// A machine of [`due_in_tx`] is told of; gives the version of the event.
///
/// # Errors
/// [`DatabaseError`].
pub async fn told_in_tx(
    connection: &mut PgConnection,
    org: OrgId,
    machine: MachineId,
) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(TOLD)
        .bind(org.0)
        .bind(machine.0)
        .fetch_one(connection)
        .await?)
}

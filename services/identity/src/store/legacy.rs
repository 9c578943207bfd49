//! Machines over HTTP: found by their name among those over HTTP alone, bound to key and address block.

use domain::{CredentialId, MachineId, OrgId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::machine::{MachineRow, change_lock_in_tx};

// `http_name` is null for an enrolled machine, whatever it is called: a name never leads to one.
const BY_NAME: &str =
    "SELECT * FROM identity.machines WHERE org_id = $1 AND http_name = $2 FOR UPDATE";

const ROOM: &str = "SELECT k.machine_cap - (SELECT count(*) FROM identity.machines AS m
        WHERE m.org_id = k.org_id AND m.bound_key = k.id AND m.revoked_at IS NULL)
    FROM identity.api_keys AS k WHERE k.org_id = $1 AND k.id = $2 AND k.kind = 'LEGACY'";

const IS_USABLE: &str = "SELECT revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    FROM identity.api_keys WHERE org_id = $1 AND id = $2 AND kind = 'LEGACY'";

const INSERT: &str = "INSERT INTO identity.machines
        (org_id, id, hostname, labels, inventory, enrolled_at, transport, http_name, bound_key, bound_block, change)
    VALUES ($1, $2, $3, '{}', '{}', now(), 'HTTP', $3, $4, $5, nextval('identity.machine_change'))
    ON CONFLICT ON CONSTRAINT machines_http_name_key DO NOTHING RETURNING *";

const QUARANTINE: &str = "UPDATE identity.machines
    SET quarantined_at = now(), quarantine_reason = $3, wanted_key = $4, wanted_block = $5,
        change = nextval('identity.machine_change')
    WHERE org_id = $1 AND id = $2 RETURNING *";

/// The machine over HTTP of this name, its row locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_name_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    name: &str,
) -> sqlx::Result<Option<MachineRow>> {
    sqlx::query_as(BY_NAME)
        .bind(org.0)
        .bind(name)
        .fetch_optional(tx)
        .await
}

/// How many more machines may be bound to a legacy key; absent when there is no such key.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn room_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    key: CredentialId,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(ROOM)
        .bind(org.0)
        .bind(key.0)
        .fetch_optional(tx)
        .await
}

/// Whether there is such a legacy key, and it is neither revoked nor expired.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn is_usable_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    key: CredentialId,
) -> sqlx::Result<bool> {
    let usable: Option<bool> = sqlx::query_scalar(IS_USABLE)
        .bind(org.0)
        .bind(key.0)
        .fetch_optional(tx)
        .await?;
    Ok(usable.unwrap_or(false))
}

/// Waits for the turn in which machines begin, so that two cannot both take the last room of a key.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn turn_in_tx(tx: &mut PgConnection) -> sqlx::Result<()> {
    change_lock_in_tx(tx).await
}

/// A new machine; absent when its name is there already. In its turn.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    name: &str,
    key: CredentialId,
    block: &str,
) -> sqlx::Result<Option<MachineRow>> {
    sqlx::query_as(INSERT)
        .bind(org.0)
        .bind(MachineId::new().0)
        .bind(name)
        .bind(key.0)
        .bind(block)
        .fetch_optional(tx)
        .await
}

/// Quarantines a machine whose row is locked, and keeps what it came with.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn quarantine_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    machine: Uuid,
    reason: &str,
    key: CredentialId,
    block: &str,
) -> sqlx::Result<MachineRow> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(QUARANTINE)
        .bind(org.0)
        .bind(machine)
        .bind(reason)
        .bind(key.0)
        .bind(block)
        .fetch_one(tx)
        .await
}

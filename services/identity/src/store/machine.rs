//! Machines, and the order of their changes.

use chrono::{DateTime, Utc};
use contract::agent::Inventory;
use contract::identity::{MachineRecord, ReleaseAccept};
use contract::legacy::LegacyBinding;
use contract::metrics::Transport;
use domain::labels::Labels;
use domain::{CredentialId, MachineId, OrgId};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

// Held until the commit, so that change numbers are in the order of commits. Taken last in a transaction: the next
// change waits for it.
const CHANGE_LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('dashfleet.identity'), hashtext('machine_change'))";

const INSERT: &str = "INSERT INTO identity.machines
        (org_id, id, hostname, public_key, labels, inventory, token_id, enrolled_at, change)
    VALUES ($1, $2, $3, $4, $5, $6, $7, now(), nextval('identity.machine_change'))
    ON CONFLICT ON CONSTRAINT machines_public_key_key DO NOTHING RETURNING *";

const BY_KEY: &str = "SELECT * FROM identity.machines WHERE public_key = $1";

const LOCK: &str = "SELECT * FROM identity.machines WHERE org_id = $1 AND id = $2 FOR UPDATE";

const REVOKE: &str = "UPDATE identity.machines
    SET revoked_at = now(), change = nextval('identity.machine_change')
    WHERE org_id = $1 AND id = $2 RETURNING *";

const QUARANTINE: &str = "UPDATE identity.machines
    SET quarantined_at = now(), quarantine_reason = $3, change = nextval('identity.machine_change')
    WHERE org_id = $1 AND id = $2 RETURNING *";

// A machine over HTTP stays bound to what it was; or, when the operator says so, is bound to what quarantined it.
const RELEASE: &str = "UPDATE identity.machines
    SET quarantined_at = NULL, quarantine_reason = NULL, releases = releases + 1,
        bound_key = CASE WHEN $3 THEN coalesce(wanted_key, bound_key) ELSE bound_key END,
        bound_block = CASE WHEN $3 THEN coalesce(wanted_block, bound_block) ELSE bound_block END,
        wanted_key = NULL, wanted_block = NULL,
        change = nextval('identity.machine_change')
    WHERE org_id = $1 AND id = $2 RETURNING *";

const CHANGES: &str = "SELECT * FROM identity.machines WHERE change > $1 ORDER BY change LIMIT $2";

const KEYS: &str = "SELECT org_id, id, public_key, revoked_at IS NOT NULL AS revoked, change
    FROM identity.machines WHERE change > $1 AND public_key IS NOT NULL ORDER BY change LIMIT $2";

const KEY: &str = "SELECT org_id, id, public_key, revoked_at IS NOT NULL AS revoked, change
    FROM identity.machines WHERE public_key = $1";

/// A machine's row.
#[derive(Clone, Debug, FromRow)]
pub struct MachineRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The machine.
    pub id: Uuid,
    /// Its name.
    pub hostname: String,
    /// Its public key; absent for a machine over HTTP.
    pub public_key: Option<String>,
    /// How it reaches us.
    pub transport: String,
    /// The name by which it says who it is; only of a machine over HTTP, like what follows.
    pub http_name: Option<String>,
    /// The key with which it comes.
    pub bound_key: Option<Uuid>,
    /// The block of addresses from which it comes.
    pub bound_block: Option<String>,
    /// The key with which came what quarantined it.
    pub wanted_key: Option<Uuid>,
    /// The name that an operator gave it.
    pub display_name: Option<String>,
    /// An operator's notes.
    pub notes: Option<String>,
    /// Its labels.
    pub labels: Json<Labels>,
    /// Inventory given at enrolment.
    pub inventory: Json<Inventory>,
    /// The token with which it enrolled; absent for a machine over HTTP.
    pub token_id: Option<Uuid>,
    /// When it enrolled.
    pub enrolled_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was quarantined; absent when it was released.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// Why.
    pub quarantine_reason: Option<String>,
    /// How often it was released.
    pub releases: i32,
    /// Its change number.
    pub change: i64,
}

impl From<MachineRow> for MachineRecord {
    fn from(row: MachineRow) -> Self {
        let legacy = match (row.http_name, row.bound_key, row.bound_block) {
            (Some(name), Some(key), Some(block)) => Some(LegacyBinding {
                name,
                key: CredentialId(key),
                block,
            }),
            _ => None,
        };
        Self {
            // The table's own check keeps both together.
            transport: if legacy.is_some() {
                Transport::Http
            } else {
                Transport::Nats
            },
            legacy,
            change: row.change,
            org: OrgId(row.org_id),
            machine_id: MachineId(row.id),
            hostname: row.hostname,
            display_name: row.display_name,
            notes: row.notes,
            public_key: row.public_key.unwrap_or_default(),
            labels: row.labels.0,
            inventory: row.inventory.0,
            enrolled_at: row.enrolled_at.into(),
            revoked_at: row.revoked_at.map(Into::into),
            quarantined_at: row.quarantined_at.map(Into::into),
            quarantine_reason: row.quarantine_reason,
            releases: row.releases,
        }
    }
}

/// What the key set knows of a machine.
#[derive(Clone, Debug, FromRow)]
pub struct KeyRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The machine.
    pub id: Uuid,
    /// Its public key.
    pub public_key: String,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Its change number.
    pub change: i64,
}

impl KeyRow {
    /// What the key set is to know of a machine; nothing of one that has no key.
    #[must_use]
    pub fn of(row: &MachineRow) -> Option<Self> {
        Some(Self {
            org_id: row.org_id,
            id: row.id,
            public_key: row.public_key.clone()?,
            revoked: row.revoked_at.is_some(),
            change: row.change,
        })
    }
}

/// What a new machine says of itself.
pub struct NewMachine<'a> {
    /// Its name.
    pub hostname: &'a str,
    /// Its public key.
    pub public_key: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// What it is.
    pub inventory: &'a Inventory,
}

/// Waits for the turn to give a machine its next change number; the turn ends with the transaction.
///
/// # Errors
/// [`sqlx::Error`].
pub(crate) async fn change_lock_in_tx(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(CHANGE_LOCK).execute(tx).await?;
    Ok(())
}

/// A new machine; absent when its public key is there already, in whatever organisation.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    token: Uuid,
    machine: &NewMachine<'_>,
) -> sqlx::Result<Option<MachineRow>> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(INSERT)
        .bind(org.0)
        .bind(MachineId::new().0)
        .bind(machine.hostname)
        .bind(machine.public_key)
        .bind(Json(machine.labels))
        .bind(Json(machine.inventory))
        .bind(token)
        .fetch_optional(tx)
        .await
}

/// The machine of this public key, in whatever organisation.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_key_in_tx(
    tx: &mut PgConnection,
    public_key: &str,
) -> sqlx::Result<Option<MachineRow>> {
    sqlx::query_as(BY_KEY)
        .bind(public_key)
        .fetch_optional(tx)
        .await
}

/// A machine, its row locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: MachineId,
) -> sqlx::Result<Option<MachineRow>> {
    sqlx::query_as(LOCK)
        .bind(org.0)
        .bind(id.0)
        .fetch_optional(tx)
        .await
}

/// Revokes a machine whose row is locked.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: MachineId,
) -> sqlx::Result<MachineRow> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(REVOKE)
        .bind(org.0)
        .bind(id.0)
        .fetch_one(tx)
        .await
}

/// Quarantines a machine whose row is locked.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn quarantine_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: MachineId,
    reason: &str,
) -> sqlx::Result<MachineRow> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(QUARANTINE)
        .bind(org.0)
        .bind(id.0)
        .bind(reason)
        .fetch_one(tx)
        .await
}

/// Releases a machine whose row is locked; one over HTTP keeps what it is bound to, or is bound to what quarantined it.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn release_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: MachineId,
    accept: ReleaseAccept,
) -> sqlx::Result<MachineRow> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(RELEASE)
        .bind(org.0)
        .bind(id.0)
        .bind(accept == ReleaseAccept::New)
        .fetch_one(tx)
        .await
}

/// Machines that changed after a change, the oldest change first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn changes(
    connection: impl PgExecutor<'_>,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<MachineRow>> {
    sqlx::query_as(CHANGES)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// Keys of machines that changed after a change, the oldest change first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn keys(
    connection: impl PgExecutor<'_>,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<KeyRow>> {
    sqlx::query_as(KEYS)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// The machine of one key.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn key(
    connection: impl PgExecutor<'_>,
    public_key: &str,
) -> sqlx::Result<Option<KeyRow>> {
    sqlx::query_as(KEY)
        .bind(public_key)
        .fetch_optional(connection)
        .await
}

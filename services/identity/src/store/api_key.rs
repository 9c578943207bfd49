//! API keys. Only hashes are here.

use chrono::{DateTime, Utc};
use domain::access::Role;
use domain::{CredentialId, OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

const BY_HASH: &str =
    "SELECT k.org_id, k.id, k.role, k.scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
        coalesce(k.expires_at <= now(), false) AS expired,
        k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS use_is_news,
        k.kind = 'LEGACY' AS is_legacy, k.networks, o.legacy_enabled, o.closed_at IS NOT NULL AS closed,
        k.created_by, CASE WHEN u.disabled_at IS NULL THEN m.role END AS creator_role
    FROM identity.api_keys AS k JOIN identity.organizations AS o ON o.org_id = k.org_id
    LEFT JOIN identity.memberships AS m ON m.org_id = k.org_id AND m.user_id = k.created_by
    LEFT JOIN identity.users AS u ON u.id = k.created_by
    WHERE k.hash = $1";

const BY_ID: &str =
    "SELECT k.org_id, k.id, k.role, k.scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
        coalesce(k.expires_at <= now(), false) AS expired,
        k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS use_is_news,
        k.kind = 'LEGACY' AS is_legacy, k.networks, o.legacy_enabled, o.closed_at IS NOT NULL AS closed,
        k.created_by, CASE WHEN u.disabled_at IS NULL THEN m.role END AS creator_role
    FROM identity.api_keys AS k JOIN identity.organizations AS o ON o.org_id = k.org_id
    LEFT JOIN identity.memberships AS m ON m.org_id = k.org_id AND m.user_id = k.created_by
    LEFT JOIN identity.users AS u ON u.id = k.created_by
    WHERE k.org_id = $1 AND k.id = $2";

// At most once a minute, however many ask at once.
const USED: &str = "UPDATE identity.api_keys SET last_used_at = now()
    WHERE org_id = $1 AND id = $2
      AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";

const INSERT: &str = "INSERT INTO identity.api_keys (org_id, id, name, hash, role)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT api_keys_hash_key DO NOTHING";

const INSERT_LEGACY: &str = "INSERT INTO identity.api_keys
        (org_id, id, name, hash, role, kind, scopes, networks, machine_cap)
    VALUES ($1, $2, $3, $4, 'VIEWER', 'LEGACY', $5, $6, $7)
    ON CONFLICT ON CONSTRAINT api_keys_hash_key DO NOTHING";

const ORG: &str = "SELECT org_id FROM identity.api_keys WHERE hash = $1";

const NAME: &str = "SELECT name FROM identity.api_keys WHERE org_id = $1 AND id = $2";

const CREATE: &str = "INSERT INTO identity.api_keys
        (org_id, id, name, hash, role, kind, scopes, networks, machine_cap, expires_at, created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const LIST: &str = "SELECT id, name, kind, role, scopes, networks, machine_cap, expires_at, created_by, created_at,
        last_used_at, revoked_at
    FROM identity.api_keys WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

const GET: &str = "SELECT id, name, kind, role, scopes, networks, machine_cap, expires_at, created_by, created_at,
        last_used_at, revoked_at
    FROM identity.api_keys WHERE org_id = $1 AND id = $2";

const LOCK: &str = "SELECT id, name, kind, role, scopes, networks, machine_cap, expires_at, created_by, created_at,
        last_used_at, revoked_at
    FROM identity.api_keys WHERE org_id = $1 AND id = $2 FOR UPDATE";

const RENAME: &str = "UPDATE identity.api_keys SET name = $3 WHERE org_id = $1 AND id = $2";

const REVOKE: &str = "UPDATE identity.api_keys SET revoked_at = now() WHERE org_id = $1 AND id = $2
    RETURNING nextval('identity.event_version')";

const REVOKE_OF_MEMBER: &str = "UPDATE identity.api_keys SET revoked_at = now()
    WHERE org_id = $1 AND created_by = $2 AND revoked_at IS NULL RETURNING id, nextval('identity.event_version')";

const HAS_HASH: &str = "SELECT hash = $3 FROM identity.api_keys WHERE org_id = $1 AND id = $2";

/// A key, as an exchange sees it.
#[derive(FromRow)]
pub struct ApiKeyRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The key.
    pub id: Uuid,
    /// Its role.
    pub role: String,
    /// What of the role it has; absent: all.
    pub scopes: Option<Vec<String>>,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it has expired.
    pub expired: bool,
    /// Whether its last use was written more than a minute ago.
    pub use_is_news: bool,
    /// Whether it is a key of Dash-Fleet's agents and scripts.
    pub is_legacy: bool,
    /// Where it is taken from; absent: from everywhere.
    pub networks: Option<Vec<String>>,
    /// Whether the organisation takes legacy keys at all.
    pub legacy_enabled: bool,
    /// Whether the organisation is closed.
    pub closed: bool,
    /// Who made it; absent for the bootstrap job.
    pub created_by: Option<Uuid>,
    /// What that person is now; absent when no member any more, or disabled.
    pub creator_role: Option<String>,
}

/// A key, as those see it who manage it.
#[derive(Clone, Debug, FromRow)]
pub struct KeyView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `API` or `LEGACY`.
    pub kind: String,
    /// Its role.
    pub role: String,
    /// What of the role it has; absent: all.
    pub scopes: Option<Vec<String>>,
    /// Where it is taken from; absent: from everywhere.
    pub networks: Option<Vec<String>>,
    /// How many machines may be bound to it.
    pub machine_cap: Option<i32>,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who made it.
    pub created_by: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a key; `created_at`, `last_used_at` and `revoked_at` of `key` are not looked at.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn create_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    key: &KeyView,
    hash: &Hash,
) -> sqlx::Result<()> {
    sqlx::query(CREATE)
        .bind(org.0)
        .bind(key.id)
        .bind(&key.name)
        .bind(hash)
        .bind(&key.role)
        .bind(&key.kind)
        .bind(&key.scopes)
        .bind(&key.networks)
        .bind(key.machine_cap)
        .bind(key.expires_at)
        .bind(key.created_by)
        .execute(tx)
        .await?;
    Ok(())
}

/// Keys before one, the newest first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<KeyView>> {
    sqlx::query_as(LIST)
        .bind(org.0)
        .bind(before)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// A key.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<Option<KeyView>> {
    sqlx::query_as(GET)
        .bind(org.0)
        .bind(id.0)
        .fetch_optional(tx)
        .await
}

/// A key, its row locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<Option<KeyView>> {
    sqlx::query_as(LOCK)
        .bind(org.0)
        .bind(id.0)
        .fetch_optional(tx)
        .await
}

/// Gives a key another name.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn rename_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
    name: &str,
) -> sqlx::Result<()> {
    sqlx::query(RENAME)
        .bind(org.0)
        .bind(id.0)
        .bind(name)
        .execute(tx)
        .await?;
    Ok(())
}

/// Revokes a key whose row is locked; gives the version of its event.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(REVOKE)
        .bind(org.0)
        .bind(id.0)
        .fetch_one(tx)
        .await
}

/// Revokes the keys that a member made; gives their ids and the versions of their events.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_of_member_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
) -> sqlx::Result<Vec<(Uuid, i64)>> {
    sqlx::query_as(REVOKE_OF_MEMBER)
        .bind(org.0)
        .bind(user.0)
        .fetch_all(tx)
        .await
}

/// Whether a key is the one of this hash.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn has_hash(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    id: Uuid,
    hash: &Hash,
) -> sqlx::Result<bool> {
    let has: Option<bool> = sqlx::query_scalar(HAS_HASH)
        .bind(org.0)
        .bind(id)
        .bind(hash)
        .fetch_optional(connection)
        .await?;
    Ok(has.unwrap_or_default())
}

/// The key of this hash.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_hash(
    connection: impl PgExecutor<'_>,
    hash: &Hash,
) -> sqlx::Result<Option<ApiKeyRow>> {
    sqlx::query_as(BY_HASH)
        .bind(hash)
        .fetch_optional(connection)
        .await
}

/// The key of this id.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_id(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<ApiKeyRow>> {
    sqlx::query_as(BY_ID)
        .bind(org.0)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// Notes that a key is used.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn used(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<()> {
    sqlx::query(USED)
        .bind(org.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// A new key, unless its hash is there; says whose it is then.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ensure_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    name: &str,
    hash: &Hash,
    role: Role,
) -> sqlx::Result<OrgId> {
    sqlx::query(INSERT)
        .bind(org.0)
        .bind(CredentialId::new().0)
        .bind(name)
        .bind(hash)
        .bind(role.as_str())
        .execute(&mut *tx)
        .await?;
    let owner: Uuid = sqlx::query_scalar(ORG).bind(hash).fetch_one(tx).await?;
    Ok(OrgId(owner))
}

/// A legacy key to be made.
#[derive(Debug)]
pub struct NewLegacyKey<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its scopes.
    pub scopes: &'a [&'a str],
    /// Where it is taken from; absent: from everywhere.
    pub networks: Option<&'a [String]>,
    /// How many machines may be bound to it.
    pub machine_cap: i32,
}

/// A new legacy key, unless its hash is there; says whose it is then.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ensure_legacy_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    hash: &Hash,
    key: &NewLegacyKey<'_>,
) -> sqlx::Result<OrgId> {
    sqlx::query(INSERT_LEGACY)
        .bind(org.0)
        .bind(CredentialId::new().0)
        .bind(key.name)
        .bind(hash)
        .bind(key.scopes)
        .bind(key.networks)
        .bind(key.machine_cap)
        .execute(&mut *tx)
        .await?;
    let owner: Uuid = sqlx::query_scalar(ORG).bind(hash).fetch_one(tx).await?;
    Ok(OrgId(owner))
}

/// The name of a key.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn name_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(NAME)
        .bind(org.0)
        .bind(id)
        .fetch_optional(tx)
        .await
}

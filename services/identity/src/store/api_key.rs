//! API keys. Only hashes are here.

use chrono::{DateTime, Utc};
use domain::access::Role;
use domain::{CredentialId, OrgId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

const BY_HASH: &str =
    "SELECT k.org_id, k.id, k.role, k.scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
        coalesce(k.expires_at <= now(), false) AS expired,
        k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS use_is_news,
        k.kind = 'LEGACY' AS is_legacy, k.networks, o.legacy_enabled
    FROM identity.api_keys AS k JOIN identity.organizations AS o ON o.org_id = k.org_id WHERE k.hash = $1";

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

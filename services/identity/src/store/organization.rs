//! Organisations.

use domain::OrgId;
use sqlx::PgConnection;
use uuid::Uuid;

// Names are not unique among tenants: the bootstrap job means the oldest of its name.
const BY_NAME: &str = "SELECT org_id FROM identity.organizations
    WHERE name = $1 ORDER BY created_at, org_id LIMIT 1";

const INSERT: &str = "INSERT INTO identity.organizations (org_id, name) VALUES ($1, $2)";

const NAME: &str = "SELECT name FROM identity.organizations WHERE org_id = $1";

const ENABLE_LEGACY: &str = "UPDATE identity.organizations SET legacy_enabled = true
    WHERE org_id = $1 AND NOT legacy_enabled";

// Two bootstrap jobs at once: the second finds what the first made.
const BOOTSTRAP_LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('dashfleet.identity'), hashtext('bootstrap'))";

/// Waits until no other bootstrap job runs, and keeps others waiting until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn bootstrap_lock_in_tx(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(BOOTSTRAP_LOCK).execute(tx).await?;
    Ok(())
}

/// The organisation of this name, made if there is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ensure_in_tx(tx: &mut PgConnection, name: &str) -> sqlx::Result<OrgId> {
    let found: Option<Uuid> = sqlx::query_scalar(BY_NAME)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(org) = found {
        return Ok(OrgId(org));
    }
    let org = OrgId::new();
    sqlx::query(INSERT)
        .bind(org.0)
        .bind(name)
        .execute(tx)
        .await?;
    Ok(org)
}

/// From now on the organisation takes legacy keys.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn legacy_enable_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<()> {
    sqlx::query(ENABLE_LEGACY).bind(org.0).execute(tx).await?;
    Ok(())
}

/// An organisation's name.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn name_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(NAME)
        .bind(org.0)
        .fetch_optional(tx)
        .await
}

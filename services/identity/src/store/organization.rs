//! Organisations.

use chrono::{DateTime, Utc};
use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

// Names are not unique among tenants: the bootstrap job means the oldest of its name.
const BY_NAME: &str = "SELECT org_id FROM identity.organizations
    WHERE name = $1 ORDER BY created_at, org_id LIMIT 1";

const INSERT: &str = "INSERT INTO identity.organizations (org_id, name) VALUES ($1, $2)";

const NAME: &str = "SELECT name FROM identity.organizations WHERE org_id = $1";

const ENABLE_LEGACY: &str = "UPDATE identity.organizations SET legacy_enabled = true
    WHERE org_id = $1 AND NOT legacy_enabled";

const GET: &str = "SELECT org_id AS id, name, NULL AS role, legacy_enabled, created_at, closed_at
    FROM identity.organizations WHERE org_id = $1";

const LOCK: &str = "SELECT org_id AS id, name, NULL AS role, legacy_enabled, created_at, closed_at
    FROM identity.organizations WHERE org_id = $1 FOR UPDATE";

const ALL: &str =
    "SELECT o.org_id AS id, o.name, m.role, o.legacy_enabled, o.created_at, o.closed_at
    FROM identity.organizations AS o
    LEFT JOIN identity.memberships AS m ON m.org_id = o.org_id AND m.user_id = $1
    WHERE o.org_id > $2 ORDER BY o.org_id LIMIT $3";

const OF_PERSON: &str =
    "SELECT o.org_id AS id, o.name, m.role, o.legacy_enabled, o.created_at, o.closed_at
    FROM identity.memberships AS m JOIN identity.organizations AS o ON o.org_id = m.org_id
    WHERE m.user_id = $1 AND o.org_id > $2 AND o.closed_at IS NULL ORDER BY o.org_id LIMIT $3";

const EDIT: &str =
    "UPDATE identity.organizations SET name = $2, legacy_enabled = $3, closed_at = $4
    WHERE org_id = $1 RETURNING nextval('identity.event_version')";

const IS_CLOSED: &str =
    "SELECT closed_at IS NOT NULL FROM identity.organizations WHERE org_id = $1";

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
    insert_in_tx(tx, org, name).await?;
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

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct OrganizationRow {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What the person who asks is there, where that was asked.
    pub role: Option<String>,
    /// Whether it takes agents of Dash-Fleet.
    pub legacy_enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
}

/// An organisation.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<Option<OrganizationRow>> {
    sqlx::query_as(GET).bind(org.0).fetch_optional(tx).await
}

/// An organisation, its row locked until the commit. Who changes its members locks it too, so that two cannot both
/// take the last OWNER.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
) -> sqlx::Result<Option<OrganizationRow>> {
    sqlx::query_as(LOCK).bind(org.0).fetch_optional(tx).await
}

/// All organisations after one, with what this person is there.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn all(
    connection: impl PgExecutor<'_>,
    person: Uuid,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<OrganizationRow>> {
    sqlx::query_as(ALL)
        .bind(person)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// The organisations of a person after one; closed ones are left out.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn of_person(
    connection: impl PgExecutor<'_>,
    person: Uuid,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<OrganizationRow>> {
    sqlx::query_as(OF_PERSON)
        .bind(person)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// A new organisation.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(tx: &mut PgConnection, org: OrgId, name: &str) -> sqlx::Result<()> {
    sqlx::query(INSERT)
        .bind(org.0)
        .bind(name)
        .execute(tx)
        .await?;
    Ok(())
}

/// Writes what can change of an organisation; gives the version of its event.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn edit_in_tx(tx: &mut PgConnection, after: &OrganizationRow) -> sqlx::Result<i64> {
    sqlx::query_scalar(EDIT)
        .bind(after.id)
        .bind(&after.name)
        .bind(after.legacy_enabled)
        .bind(after.closed_at)
        .fetch_one(tx)
        .await
}

/// Whether an organisation is closed; absent when there is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn is_closed(connection: impl PgExecutor<'_>, org: OrgId) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar(IS_CLOSED)
        .bind(org.0)
        .fetch_optional(connection)
        .await
}

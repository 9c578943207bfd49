//! What is said of an organisation's executions as a whole, in its tenant transaction.

use chrono::{DateTime, Utc};
use contract::job::Settings;
use database::{DatabaseError, Tx};
use domain::OrgId;

const GET: &str =
    "SELECT paused_at, concurrency, weight, version FROM scheduler.tenants WHERE org_id = $1";

/// The row is there afterwards, and nobody else changes it before the commit.
const LOCK: &str = "
    INSERT INTO scheduler.tenants AS tenant (org_id) VALUES ($1)
    ON CONFLICT ON CONSTRAINT tenants_pkey DO UPDATE SET version = tenant.version
    RETURNING paused_at, concurrency, weight, version";

const UPDATE: &str = "
    UPDATE scheduler.tenants SET paused_at = $2, concurrency = $3, weight = $4, version = $5 WHERE org_id = $1";

/// A row of `scheduler.tenants`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct SettingsRow {
    pub paused_at: Option<DateTime<Utc>>,
    pub concurrency: Option<i32>,
    pub weight: i16,
    pub version: i64,
}

impl Default for SettingsRow {
    /// Nothing was said.
    fn default() -> Self {
        Self {
            paused_at: None,
            concurrency: None,
            weight: 1,
            version: 1,
        }
    }
}

impl SettingsRow {
    /// As users see it.
    #[must_use]
    pub fn view(&self) -> Settings {
        Settings {
            paused: self.paused_at.is_some(),
            concurrency: self.concurrency,
            weight: self.weight,
        }
    }
}

/// What was said of an organisation.
///
/// # Errors
/// [`DatabaseError`].
pub async fn settings_get_in_tx(tx: &mut Tx, org: OrgId) -> Result<SettingsRow, DatabaseError> {
    let row: Option<SettingsRow> = sqlx::query_as(GET)
        .bind(org.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.unwrap_or_default())
}

/// What was said of an organisation; nobody else says anything before the commit.
///
/// # Errors
/// [`DatabaseError`].
pub async fn settings_lock_in_tx(tx: &mut Tx, org: OrgId) -> Result<SettingsRow, DatabaseError> {
    Ok(sqlx::query_as(LOCK)
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?)
}

/// Writes what is said of an organisation whose row is locked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn settings_update_in_tx(
    tx: &mut Tx,
    org: OrgId,
    row: &SettingsRow,
) -> Result<(), DatabaseError> {
    sqlx::query(UPDATE)
        .bind(org.0)
        .bind(row.paused_at)
        .bind(row.concurrency)
        .bind(row.weight)
        .bind(row.version)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

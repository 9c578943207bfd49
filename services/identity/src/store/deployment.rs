//! The installation: one row.

use domain::DeploymentId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

// The first one stays.
const INSERT: &str = "INSERT INTO identity.deployment (id) VALUES ($1) ON CONFLICT DO NOTHING";

const SELECT: &str = "SELECT id FROM identity.deployment";

/// Makes the installation's id unless there is one.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ensure_in_tx(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(INSERT).bind(Uuid::new_v4()).execute(tx).await?;
    Ok(())
}

/// The installation's id; absent before the bootstrap job.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get(connection: impl PgExecutor<'_>) -> sqlx::Result<Option<DeploymentId>> {
    let id: Option<Uuid> = sqlx::query_scalar(SELECT)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(DeploymentId))
}

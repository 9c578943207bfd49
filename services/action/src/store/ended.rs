//! Actions that the server itself ends: of each row only what its event needs, so that ending many at once costs
//! little memory. The statements that end them `RETURNING` these columns.

use database::{DatabaseError, OutboxRow};
use domain::OrgId;
use sqlx::PgPool;
use uuid::Uuid;

use crate::store::row::ActionRow;

const ROWS: &str = "SELECT * FROM action.actions WHERE org_id = $1 AND id = ANY($2)";

/// An action that the server ended.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Ended {
    pub org_id: Uuid,
    pub id: Uuid,
    pub machine_id: Uuid,
    pub kind: String,
    pub status: String,
    pub version: i64,
    pub late: bool,
}

impl Ended {
    /// The event of its end.
    #[must_use]
    pub fn event(&self) -> OutboxRow {
        let data = serde_json::json!({
            "machineId": self.machine_id, "kind": self.kind, "status": self.status, "late": self.late,
        });
        let verb = self.status.to_lowercase();
        OutboxRow::new(
            self.org_id.into(),
            "action",
            &verb,
            self.id,
            self.version,
            data,
        )
    }
}

impl From<&ActionRow> for Ended {
    fn from(row: &ActionRow) -> Self {
        Self {
            org_id: row.org_id,
            id: row.id,
            machine_id: row.machine_id,
            kind: row.kind.clone(),
            status: row.status.clone(),
            version: row.version,
            late: row.late,
        }
    }
}

/// Actions of one organisation, whole.
///
/// # Errors
/// [`DatabaseError`].
pub async fn rows(
    pool: &PgPool,
    org: OrgId,
    actions: &[Uuid],
) -> Result<Vec<ActionRow>, DatabaseError> {
    Ok(sqlx::query_as(ROWS)
        .bind(org.0)
        .bind(actions)
        .fetch_all(pool)
        .await?)
}

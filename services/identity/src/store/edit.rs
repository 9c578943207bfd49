//! What operators say of machines: read under the rows' locks, written by one statement.

use domain::labels::{LabelFilter, Labels};
use domain::{MachineId, OrgId};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::store::machine::change_lock_in_tx;

// Rows are locked in the order of their ids, so that two edits cannot wait for each other.
const LOCK: &str = "SELECT id, display_name, notes, labels, change FROM identity.machines
    WHERE org_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE";

// `$2` labels that must be there, `$3` keys that must be, `$4` keys that must not, `$5` labels that must not be. Who was
// relabelled while this waited for its row is judged by its new labels.
const CHOOSE: &str = "SELECT id, display_name, notes, labels, change FROM identity.machines AS m
    WHERE m.org_id = $1 AND m.revoked_at IS NULL
        AND ($2::jsonb IS NULL OR m.labels @> $2) AND ($3::text[] IS NULL OR m.labels ?& $3)
        AND ($4::text[] IS NULL OR NOT m.labels ?| $4) AND ($5::jsonb[] IS NULL OR NOT m.labels @> ANY ($5))
    ORDER BY m.id LIMIT $6 FOR UPDATE";

const EDIT: &str = "UPDATE identity.machines AS m
    SET display_name = t.display_name, notes = t.notes, labels = t.labels, change = nextval('identity.machine_change')
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[]) AS t(id, display_name, notes, labels)
    WHERE m.org_id = $1 AND m.id = t.id RETURNING m.id, m.change";

/// What operators say of a machine.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Said {
    /// The machine.
    pub id: Uuid,
    /// The name that they gave it.
    pub display_name: Option<String>,
    /// Their notes.
    pub notes: Option<String>,
    /// Its labels.
    pub labels: Json<Labels>,
    /// Its change number, before an edit.
    pub change: i64,
}

/// These machines, as far as the organisation has them, in the order of their ids; their rows are locked until the
/// commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    machines: &[MachineId],
) -> sqlx::Result<Vec<Said>> {
    sqlx::query_as(LOCK)
        .bind(org.0)
        .bind(machines.iter().map(|id| id.0).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
}

/// The machines that are not revoked and whose labels pass the filter, the first of them in the order of ids; their rows
/// are locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn choose_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    filter: &LabelFilter,
    limit: i64,
) -> sqlx::Result<Vec<Said>> {
    let differs = || filter.differs.iter().map(Json).collect::<Vec<_>>();
    sqlx::query_as(CHOOSE)
        .bind(org.0)
        .bind((!filter.equals.is_empty()).then_some(Json(&filter.equals)))
        .bind((!filter.has.is_empty()).then_some(&filter.has))
        .bind((!filter.lacks.is_empty()).then_some(&filter.lacks))
        .bind((!filter.differs.is_empty()).then(differs))
        .bind(limit)
        .persistent(false)
        .fetch_all(tx)
        .await
}

/// Writes what operators say of machines whose rows are locked; gives their change numbers.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn edit_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    said: &[&Said],
) -> sqlx::Result<Vec<(Uuid, i64)>> {
    change_lock_in_tx(tx).await?;
    sqlx::query_as(EDIT)
        .bind(org.0)
        .bind(said.iter().map(|said| said.id).collect::<Vec<_>>())
        .bind(
            said.iter()
                .map(|said| said.display_name.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            said.iter()
                .map(|said| said.notes.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(said.iter().map(|said| &said.labels).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
}

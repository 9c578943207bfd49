//! What a selector chooses: ids in their order, under row-level security.

use database::DatabaseError;
use domain::MachineId;
use domain::labels::LabelFilter;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// A page of ids. `$1` labels that must be there, `$2` keys that must be, `$3` keys that must not, `$4` labels that must
/// not be, `$5` where the page before ended, `$6` the limit. What is absent is null, and the statement is planned for its
/// values: all pages together read an organisation's machines once, in the order of the primary key.
pub const PAGE: &str = "
    SELECT m.id FROM metrics.machines m
    WHERE m.revoked_at IS NULL
        AND ($1::jsonb IS NULL OR m.labels @> $1) AND ($2::text[] IS NULL OR m.labels ?& $2)
        AND ($3::text[] IS NULL OR NOT m.labels ?| $3) AND ($4::jsonb[] IS NULL OR NOT m.labels @> ANY ($4))
        AND ($5::uuid IS NULL OR m.id > $5)
    ORDER BY m.id LIMIT $6";

/// The transaction's organisation's machines that a filter's labels choose, without those that are revoked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn page(
    connection: &mut PgConnection,
    filter: &LabelFilter,
    after: Option<MachineId>,
    limit: i64,
) -> Result<Vec<MachineId>, DatabaseError> {
    let differs = || filter.differs.iter().map(Json).collect::<Vec<_>>();
    let ids: Vec<Uuid> = sqlx::query_scalar(PAGE)
        .bind((!filter.equals.is_empty()).then_some(Json(&filter.equals)))
        .bind((!filter.has.is_empty()).then_some(&filter.has))
        .bind((!filter.lacks.is_empty()).then_some(&filter.lacks))
        .bind((!filter.differs.is_empty()).then(differs))
        .bind(after.map(|id| id.0))
        .bind(limit)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

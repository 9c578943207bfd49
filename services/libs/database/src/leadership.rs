//! What one replica does for all: whoever holds a session's advisory lock leads, and another takes over when that session
//! has ended, however it did.

use sqlx::{PgConnection, PgPool};

use crate::error::DatabaseError;
use crate::pools::answered;

/// Whether nobody leads, at this moment.
const IS_FREE: &str = "SELECT pg_try_advisory_xact_lock(hashtext($1), hashtext($2))";
/// Leads, for as long as the session lives; unless another does.
const LEAD: &str = "SELECT pg_try_advisory_lock(hashtext($1), hashtext($2))";

/// A connection that leads in `what` of `schema`, for as long as it lives; `None` while another does.
pub(crate) async fn lead(
    pool: &PgPool,
    what: &str,
    schema: &str,
) -> Result<Option<PgConnection>, DatabaseError> {
    // Asked first with a connection of the pool: this lock ends with its statement.
    let free: bool = sqlx::query_scalar(IS_FREE)
        .bind(what)
        .bind(schema)
        .fetch_one(pool)
        .await?;
    if !free {
        return Ok(None);
    }
    // This one lives as long as the connection, so the connection is not given back to the pool with it.
    let mut connection = pool.acquire().await?.detach();
    let leads = sqlx::query_scalar(LEAD).bind(what).bind(schema);
    let leads: bool = answered(leads.fetch_one(&mut connection)).await?;
    Ok(leads.then_some(connection))
}

//! Failed logins, by the hash of address and account. A bucket leaks `$2` in a second.

use sqlx::PgExecutor;

use crate::store::Hash;

const LEVEL: &str = "SELECT greatest(0, level - extract(epoch FROM now() - at)::float8 * $2)
    FROM identity.login_failures WHERE who = $1";

// One statement, under the row's lock: of many at once, at whatever replicas, no more get in than there is room for.
const TAKE: &str = "INSERT INTO identity.login_failures AS f (who, level, at) VALUES ($1, 1, now())
    ON CONFLICT ON CONSTRAINT login_failures_pkey DO UPDATE
        SET level = greatest(0, f.level - extract(epoch FROM now() - f.at)::float8 * $2) + 1, at = now()
        WHERE f.level - extract(epoch FROM now() - f.at)::float8 * $2 <= $3
    RETURNING level";

const GIVE_BACK: &str =
    "UPDATE identity.login_failures SET level = greatest(0, level - 1) WHERE who = $1";

const DELETE_EMPTY: &str = "DELETE FROM identity.login_failures WHERE who IN (
    SELECT who FROM identity.login_failures WHERE at < now() - make_interval(secs => $1) LIMIT $2)";

/// How many failures count at this moment.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn level(
    connection: impl PgExecutor<'_>,
    who: &Hash,
    per_second: f64,
) -> sqlx::Result<f64> {
    let level: Option<f64> = sqlx::query_scalar(LEVEL)
        .bind(who)
        .bind(per_second)
        .fetch_optional(connection)
        .await?;
    Ok(level.unwrap_or_default())
}

/// Counts one, unless more than `most` count at this moment; says whether it did.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn take(
    connection: impl PgExecutor<'_>,
    who: &Hash,
    per_second: f64,
    most: f64,
) -> sqlx::Result<bool> {
    let level: Option<f64> = sqlx::query_scalar(TAKE)
        .bind(who)
        .bind(per_second)
        .bind(most)
        .fetch_optional(connection)
        .await?;
    Ok(level.is_some())
}

/// One that was counted was none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn give_back(connection: impl PgExecutor<'_>, who: &Hash) -> sqlx::Result<()> {
    sqlx::query(GIVE_BACK).bind(who).execute(connection).await?;
    Ok(())
}

/// Deletes at most `limit` that are older than this, and so are empty again; says how many.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn delete_empty(
    connection: impl PgExecutor<'_>,
    seconds: f64,
    limit: i64,
) -> sqlx::Result<u64> {
    Ok(sqlx::query(DELETE_EMPTY)
        .bind(seconds)
        .bind(limit)
        .execute(connection)
        .await?
        .rows_affected())
}

//! Partitions of samples, by the owner's functions (migration 0004).

use database::DatabaseError;
use sqlx::PgPool;

/// Makes the partitions from so many days back to so many days ahead, by UTC.
const ENSURE: &str = "SELECT metrics.sample_partitions_ensure((now() AT TIME ZONE 'UTC')::date - $1::integer, (now() AT TIME ZONE 'UTC')::date + $2::integer)";
/// Drops the partitions of more than so many days back.
const DROP: &str =
    "SELECT metrics.sample_partitions_drop((now() AT TIME ZONE 'UTC')::date - $1::integer)";

/// Makes what is missing; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn ensure(pool: &PgPool, days_back: i32, days_ahead: i32) -> Result<i32, DatabaseError> {
    Ok(sqlx::query_scalar(ENSURE)
        .bind(days_back)
        .bind(days_ahead)
        .fetch_one(pool)
        .await?)
}

/// Drops what is over; says how many. What is being read stays until the next time.
///
/// # Errors
/// [`DatabaseError`].
pub async fn drop(pool: &PgPool, days_back: i32) -> Result<i32, DatabaseError> {
    Ok(sqlx::query_scalar(DROP)
        .bind(days_back)
        .fetch_one(pool)
        .await?)
}

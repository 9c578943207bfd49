//! `Idempotency-Key`s: which body each stands for, and what it made.

use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

const TAKE: &str = "INSERT INTO identity.idempotency_keys (org_id, route, key, body_hash, made)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING";

const GET: &str = "SELECT body_hash = $4 AS same_body, made
    FROM identity.idempotency_keys WHERE org_id = $1 AND route = $2 AND key = $3";

const DELETE_OLD: &str = "DELETE FROM identity.idempotency_keys WHERE (org_id, route, key) IN (
    SELECT org_id, route, key FROM identity.idempotency_keys WHERE created_at < now() - interval '24 hours' LIMIT $1)";

/// What a key made.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct MadeRow {
    /// Whether it came with this body.
    pub same_body: bool,
    /// The thing.
    pub made: Uuid,
}

/// A key and the body that it came with.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// What keys are filed under.
    pub route: &'static str,
    /// The key.
    pub key: &'a str,
    /// SHA-256 of the body.
    pub body_hash: &'a Hash,
}

/// Takes a key for a thing. A concurrent request with the same key is waited for; `false` when the key is taken.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn take_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    key: Key<'_>,
    made: Uuid,
) -> sqlx::Result<bool> {
    let taken = sqlx::query(TAKE)
        .bind(org.0)
        .bind(key.route)
        .bind(key.key)
        .bind(key.body_hash)
        .bind(made)
        .execute(tx)
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// What a key made; absent when nobody took it.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    key: Key<'_>,
) -> sqlx::Result<Option<MadeRow>> {
    sqlx::query_as(GET)
        .bind(org.0)
        .bind(key.route)
        .bind(key.key)
        .bind(key.body_hash)
        .fetch_optional(tx)
        .await
}

/// Deletes at most `limit` keys that are too old to count; says how many.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn delete_old(connection: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<u64> {
    Ok(sqlx::query(DELETE_OLD)
        .bind(limit)
        .execute(connection)
        .await?
        .rows_affected())
}

//! `Idempotency-Key`s: which body each stands for, and which ids it made.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};
use domain::OrgId;
use uuid::Uuid;

const TAKE: &str = "
    INSERT INTO scheduler.idempotency_keys (org_id, route, key, body_hash, ids, created_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING";

const GET: &str = "
    SELECT body_hash, ids FROM scheduler.idempotency_keys WHERE org_id = $1 AND route = $2 AND key = $3";

/// Takes a key for ids. A concurrent request with the same key is waited for; `false` when the key is taken.
///
/// # Errors
/// [`DatabaseError`].
pub async fn key_take_in_tx(
    tx: &mut Tx,
    org: OrgId,
    route: &str,
    key: &str,
    body_hash: &[u8],
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let taken = sqlx::query(TAKE)
        .bind(org.0)
        .bind(route)
        .bind(key)
        .bind(body_hash)
        .bind(ids)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// The body's hash and the ids of a key; `None` when nobody took it.
///
/// # Errors
/// [`DatabaseError`].
pub async fn key_get_in_tx(
    tx: &mut Tx,
    org: OrgId,
    route: &str,
    key: &str,
) -> Result<Option<(Vec<u8>, Vec<Uuid>)>, DatabaseError> {
    Ok(sqlx::query_as(GET)
        .bind(org.0)
        .bind(route)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?)
}

//! Enrolment tokens. Only hashes are here.

use chrono::{DateTime, Utc};
use domain::OrgId;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::store::Hash;

// The one conditional update that decides: it counts, and of two that want the last use one gets it.
const USE: &str = "UPDATE identity.enrollment_tokens SET uses_left = uses_left - 1
    WHERE hash = $1 AND revoked_at IS NULL AND expires_at > now() AND uses_left > 0
    RETURNING org_id, id";

const WHY_NOT: &str = "SELECT org_id, id, expires_at, uses_left, expires_at <= now() AS expired,
        revoked_at IS NOT NULL AS revoked
    FROM identity.enrollment_tokens WHERE hash = $1";

// A token that expired lives again; one that was revoked does not.
const ENSURE: &str = "INSERT INTO identity.enrollment_tokens AS t
        (org_id, id, name, hash, expires_at, uses_left)
    VALUES ($1, $2, $3, $4, now() + make_interval(days => $5), $6)
    ON CONFLICT ON CONSTRAINT enrollment_tokens_hash_key DO UPDATE
        SET expires_at = excluded.expires_at, uses_left = excluded.uses_left
        WHERE t.expires_at <= now() AND t.org_id = excluded.org_id";

/// A token, as an enrolment sees it.
#[derive(FromRow)]
pub struct TokenRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The token.
    pub id: Uuid,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// How often it can still be used.
    pub uses_left: i32,
    /// Whether it has expired.
    pub expired: bool,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Takes one use of a token, if there is one to take.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn use_in_tx(tx: &mut PgConnection, hash: &Hash) -> sqlx::Result<Option<(OrgId, Uuid)>> {
    let used: Option<(Uuid, Uuid)> = sqlx::query_as(USE).bind(hash).fetch_optional(tx).await?;
    Ok(used.map(|(org, id)| (OrgId(org), id)))
}

/// The token of this hash, whatever its state.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_hash_in_tx(tx: &mut PgConnection, hash: &Hash) -> sqlx::Result<Option<TokenRow>> {
    sqlx::query_as(WHY_NOT).bind(hash).fetch_optional(tx).await
}

/// Makes a token, or extends the one of this hash if it has expired; says whose it is.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ensure_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    name: &str,
    hash: &Hash,
    (days, uses): (i32, i32),
) -> sqlx::Result<OrgId> {
    sqlx::query(ENSURE)
        .bind(org.0)
        .bind(Uuid::now_v7())
        .bind(name)
        .bind(hash)
        .bind(days)
        .bind(uses)
        .execute(&mut *tx)
        .await?;
    let token = by_hash_in_tx(tx, hash).await?;
    Ok(token.map_or(org, |token| OrgId(token.org_id)))
}

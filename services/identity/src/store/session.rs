//! Logins. Only hashes of tokens are here.

use chrono::{DateTime, Utc};
use domain::{CredentialId, OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

const INSERT: &str = "INSERT INTO identity.sessions
    (org_id, id, user_id, access_hash, access_expires_at, refresh_hash, refresh_expires_at)
    VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5), $6, now() + make_interval(secs => $7))";

const BY_ACCESS: &str = "SELECT s.org_id, s.id, s.user_id, m.role, s.access_expires_at,
        s.access_expires_at <= now() AS expired, s.revoked_at IS NOT NULL AS revoked
    FROM identity.sessions AS s
    LEFT JOIN identity.memberships AS m ON m.org_id = s.org_id AND m.user_id = s.user_id
    WHERE s.access_hash = $1";

// One statement, so that of two refreshes with one token only one wins.
const ROTATE: &str = "UPDATE identity.sessions SET
        access_hash = $2, access_expires_at = now() + make_interval(secs => $3),
        previous_refresh_hash = refresh_hash, rotated_at = now(),
        refresh_hash = $4, refresh_expires_at = now() + make_interval(secs => $5)
    WHERE refresh_hash = $1 AND revoked_at IS NULL AND refresh_expires_at > now()
    RETURNING id";

const BY_REFRESH: &str = "SELECT org_id, id, revoked_at IS NOT NULL AS revoked,
        refresh_hash = $1 AS current,
        CASE WHEN refresh_hash = $2 AND rotated_at > now() - make_interval(secs => $3)
            THEN greatest(0, extract(epoch FROM access_expires_at - now()))::int4 END AS repeated
    FROM identity.sessions WHERE refresh_hash = $1 OR previous_refresh_hash = $1";

const REVOKE: &str = "UPDATE identity.sessions SET revoked_at = now()
    WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING id";

// A day after its end nobody asks any more why a session ended.
const DELETE_ENDED: &str = "DELETE FROM identity.sessions WHERE (org_id, id) IN (
    SELECT org_id, id FROM identity.sessions
    WHERE refresh_expires_at < now() - interval '1 day' LIMIT $1)";

/// Hashes and lifetimes of a pair of tokens.
pub struct TokenHashes {
    /// Of the access token.
    pub access: Hash,
    /// Seconds until it expires.
    pub access_seconds: f64,
    /// Of the refresh token.
    pub refresh: Hash,
    /// Seconds until it expires.
    pub refresh_seconds: f64,
}

/// A session, as an exchange sees it.
#[derive(FromRow)]
pub struct SessionRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The session.
    pub id: Uuid,
    /// The person.
    pub user_id: Uuid,
    /// The person's role now; absent when the person is no member any more.
    pub role: Option<String>,
    /// When the access token expires.
    pub access_expires_at: DateTime<Utc>,
    /// Whether that was before now.
    pub expired: bool,
    /// Whether the session was ended.
    pub revoked: bool,
}

/// A session, as a refresh that failed sees it.
#[derive(FromRow)]
pub struct RefreshRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The session.
    pub id: Uuid,
    /// Whether the session was ended.
    pub revoked: bool,
    /// Whether the token is the current one, else the one before.
    pub current: bool,
    /// When it is the one before, replaced a moment ago by the very token that would be given now: seconds until the
    /// access token given with that one expires.
    pub repeated: Option<i32>,
}

/// A new session.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
    user: UserId,
    tokens: &TokenHashes,
) -> sqlx::Result<()> {
    sqlx::query(INSERT)
        .bind(org.0)
        .bind(id.0)
        .bind(user.0)
        .bind(tokens.access)
        .bind(tokens.access_seconds)
        .bind(tokens.refresh)
        .bind(tokens.refresh_seconds)
        .execute(tx)
        .await?;
    Ok(())
}

/// The session of an access token.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_access(
    connection: impl PgExecutor<'_>,
    access: &Hash,
) -> sqlx::Result<Option<SessionRow>> {
    sqlx::query_as(BY_ACCESS)
        .bind(access)
        .fetch_optional(connection)
        .await
}

/// Replaces the tokens of the session of this refresh token; says whether there was one to refresh.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn rotate(
    connection: impl PgExecutor<'_>,
    refresh: &Hash,
    tokens: &TokenHashes,
) -> sqlx::Result<bool> {
    let id: Option<Uuid> = sqlx::query_scalar(ROTATE)
        .bind(refresh)
        .bind(tokens.access)
        .bind(tokens.access_seconds)
        .bind(tokens.refresh)
        .bind(tokens.refresh_seconds)
        .fetch_optional(connection)
        .await?;
    Ok(id.is_some())
}

/// The session that has or had this refresh token; `successor` is what replaces it, for so many seconds a repetition.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_refresh_in_tx(
    tx: &mut PgConnection,
    refresh: &Hash,
    successor: &Hash,
    seconds: f64,
) -> sqlx::Result<Option<RefreshRow>> {
    sqlx::query_as(BY_REFRESH)
        .bind(refresh)
        .bind(successor)
        .bind(seconds)
        .fetch_optional(tx)
        .await
}

/// Ends a session; says whether it was not ended before.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<bool> {
    let ended: Option<Uuid> = sqlx::query_scalar(REVOKE)
        .bind(org.0)
        .bind(id.0)
        .fetch_optional(tx)
        .await?;
    Ok(ended.is_some())
}

/// Deletes at most `limit` sessions that ended long ago; says how many.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn delete_ended(connection: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<u64> {
    Ok(sqlx::query(DELETE_ENDED)
        .bind(limit)
        .execute(connection)
        .await?
        .rows_affected())
}

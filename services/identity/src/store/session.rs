//! Logins. Only hashes of tokens are here.

use chrono::{DateTime, Utc};
use domain::{CredentialId, OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

const INSERT: &str = "INSERT INTO identity.sessions
    (org_id, id, user_id, access_hash, access_expires_at, refresh_hash, refresh_expires_at, address, user_agent,
        family_hash)
    VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5), $6, now() + make_interval(secs => $7), $8, $9, $10)";

const BY_ACCESS: &str = "SELECT s.org_id, s.id, s.user_id, m.role, s.access_expires_at,
        s.access_expires_at <= now() AS expired, s.revoked_at IS NOT NULL AS revoked,
        o.closed_at IS NOT NULL AS closed, u.disabled_at IS NOT NULL AS disabled, u.platform_admin,
        s.last_used_at IS NULL OR s.last_used_at < now() - interval '1 minute' AS use_is_news
    FROM identity.sessions AS s
    JOIN identity.organizations AS o ON o.org_id = s.org_id
    JOIN identity.users AS u ON u.id = s.user_id
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
        CASE WHEN rotated_at > now() - make_interval(secs => $3)
            THEN array_position($2::bytea[], refresh_hash) END AS successor,
        greatest(0, extract(epoch FROM access_expires_at - now()))::int4 AS access_seconds
    FROM identity.sessions WHERE refresh_hash = $1 OR previous_refresh_hash = $1 OR family_hash = $4";

const REVOKE: &str = "UPDATE identity.sessions SET revoked_at = now()
    WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING id";

// At most once a minute, however many ask at once.
const USED: &str = "UPDATE identity.sessions SET last_used_at = now()
    WHERE org_id = $1 AND id = $2
      AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";

const OF_PERSON: &str =
    "SELECT org_id, id, address, user_agent, created_at, last_used_at, refresh_expires_at
    FROM identity.sessions
    WHERE user_id = $1 AND id < $2 AND revoked_at IS NULL AND refresh_expires_at > now()
    ORDER BY id DESC LIMIT $3";

const OWN: &str = "SELECT org_id FROM identity.sessions WHERE user_id = $1 AND id = $2 FOR UPDATE";

const REVOKE_OTHERS: &str = "UPDATE identity.sessions SET revoked_at = now()
    WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND refresh_expires_at > now()
    RETURNING org_id, id";

// A person who is no member any more has no sessions here: the rows go before the membership does.
const DELETE_OF_MEMBER: &str =
    "DELETE FROM identity.sessions WHERE org_id = $1 AND user_id = $2 RETURNING id";

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
    /// Of what all refresh tokens of the session end with.
    pub family: Hash,
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
    /// Whether the organisation is closed.
    pub closed: bool,
    /// Whether the account is disabled.
    pub disabled: bool,
    /// Whether the person administers the installation.
    pub platform_admin: bool,
    /// Whether its last use was written more than a minute ago.
    pub use_is_news: bool,
}

/// A session, as its person sees it.
#[derive(FromRow)]
pub struct OwnSessionRow {
    /// The organisation.
    pub org_id: Uuid,
    /// The session.
    pub id: Uuid,
    /// Where it began.
    pub address: Option<String>,
    /// What the client said it is.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub refresh_expires_at: DateTime<Utc>,
}

/// Whence a session begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    /// The network address.
    pub address: Option<&'a str>,
    /// What the client says it is.
    pub user_agent: Option<&'a str>,
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
    /// Whether the token is the current one, else one of those before.
    pub current: bool,
    /// When it is the one before, replaced a moment ago by one of the tokens that follow from it: which of them, from 1.
    pub successor: Option<i32>,
    /// Seconds until the present access token expires.
    pub access_seconds: i32,
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
    client: Client<'_>,
) -> sqlx::Result<()> {
    sqlx::query(INSERT)
        .bind(org.0)
        .bind(id.0)
        .bind(user.0)
        .bind(tokens.access)
        .bind(tokens.access_seconds)
        .bind(tokens.refresh)
        .bind(tokens.refresh_seconds)
        .bind(client.address)
        .bind(client.user_agent)
        .bind(tokens.family)
        .execute(tx)
        .await?;
    Ok(())
}

/// Notes that a session is used.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn used(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    id: CredentialId,
) -> sqlx::Result<()> {
    sqlx::query(USED)
        .bind(org.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// A person's sessions that go on, of all organisations, the newest first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn of_person(
    connection: impl PgExecutor<'_>,
    person: Uuid,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<OwnSessionRow>> {
    sqlx::query_as(OF_PERSON)
        .bind(person)
        .bind(before)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// The organisation of one of a person's sessions, ended or not; its row is locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn own_in_tx(
    tx: &mut PgConnection,
    person: Uuid,
    id: CredentialId,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar(OWN)
        .bind(person)
        .bind(id.0)
        .fetch_optional(tx)
        .await
}

/// Ends all of a person's sessions but one; gives their organisations and ids.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_others_in_tx(
    tx: &mut PgConnection,
    person: Uuid,
    but: Uuid,
) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
    sqlx::query_as(REVOKE_OTHERS)
        .bind(person)
        .bind(but)
        .fetch_all(tx)
        .await
}

/// Removes a member's sessions; gives their ids.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn delete_of_member_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(DELETE_OF_MEMBER)
        .bind(org.0)
        .bind(user.0)
        .fetch_all(tx)
        .await
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

/// The session that has or had this refresh token, which is of this family; `successors` are what may have replaced it,
/// for so many seconds a repetition.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_refresh_in_tx(
    tx: &mut PgConnection,
    refresh: &Hash,
    family: &Hash,
    successors: &[Hash],
    seconds: f64,
) -> sqlx::Result<Option<RefreshRow>> {
    sqlx::query_as(BY_REFRESH)
        .bind(refresh)
        .bind(successors)
        .bind(seconds)
        .bind(family)
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

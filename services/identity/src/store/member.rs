//! The people of an organisation.

use chrono::{DateTime, Utc};
use domain::access::Role;
use domain::{OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

const LIST: &str = "SELECT m.user_id AS id, u.email, u.name, m.role, m.created_at AS joined_at,
        (SELECT max(s.last_used_at) FROM identity.sessions AS s
            WHERE s.org_id = m.org_id AND s.user_id = m.user_id) AS last_seen_at
    FROM identity.memberships AS m JOIN identity.users AS u ON u.id = m.user_id
    WHERE m.org_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";

const GET: &str = "SELECT m.user_id AS id, u.email, u.name, m.role, m.created_at AS joined_at,
        (SELECT max(s.last_used_at) FROM identity.sessions AS s
            WHERE s.org_id = m.org_id AND s.user_id = m.user_id) AS last_seen_at
    FROM identity.memberships AS m JOIN identity.users AS u ON u.id = m.user_id
    WHERE m.org_id = $1 AND m.user_id = $2";

const STANDING: &str =
    "SELECT m.role, u.disabled_at IS NOT NULL AS disabled, o.closed_at IS NOT NULL AS closed
    FROM identity.memberships AS m
    JOIN identity.users AS u ON u.id = m.user_id
    JOIN identity.organizations AS o ON o.org_id = m.org_id
    WHERE m.org_id = $1 AND m.user_id = $2";

// Nobody begins a session of this member until the commit: that needs the membership.
const LOCK: &str =
    "SELECT role FROM identity.memberships WHERE org_id = $1 AND user_id = $2 FOR UPDATE";

// Of all organisations that the person is in, and of one other person in one: nobody changes them until the commit.
const HOLD: &str = "SELECT org_id FROM identity.memberships
    WHERE user_id = $1 OR (org_id = $2 AND user_id = $3) ORDER BY org_id, user_id FOR SHARE";

const OWNERS: &str =
    "SELECT count(*) FROM identity.memberships WHERE org_id = $1 AND role = 'OWNER'";

const EDIT: &str = "UPDATE identity.memberships SET role = $3 WHERE org_id = $1 AND user_id = $2
    RETURNING nextval('identity.event_version')";

const REMOVE: &str = "DELETE FROM identity.memberships WHERE org_id = $1 AND user_id = $2
    RETURNING nextval('identity.event_version')";

const VERSION: &str = "SELECT nextval('identity.event_version')";

const IS_MEMBER: &str = "SELECT EXISTS (SELECT FROM identity.memberships AS m
    JOIN identity.users AS u ON u.id = m.user_id WHERE m.org_id = $1 AND u.email = $2)";

/// A member.
#[derive(Clone, Debug, FromRow)]
pub struct MemberRow {
    /// The person.
    pub id: Uuid,
    /// The address.
    pub email: String,
    /// The name.
    pub name: String,
    /// The role.
    pub role: String,
    /// Since when.
    pub joined_at: DateTime<Utc>,
    /// When a session here was last used.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// What a member is now.
#[derive(Clone, Debug, FromRow)]
pub struct StandingRow {
    /// The role.
    pub role: String,
    /// Whether the account is disabled.
    pub disabled: bool,
    /// Whether the organisation is closed.
    pub closed: bool,
}

/// What a member is now; absent for who is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn standing(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    user: UserId,
) -> sqlx::Result<Option<StandingRow>> {
    sqlx::query_as(STANDING)
        .bind(org.0)
        .bind(user.0)
        .fetch_optional(connection)
        .await
}

/// Members after one, in the order of their ids.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<MemberRow>> {
    sqlx::query_as(LIST)
        .bind(org.0)
        .bind(after)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// A member.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
) -> sqlx::Result<Option<MemberRow>> {
    sqlx::query_as(GET)
        .bind(org.0)
        .bind(user.0)
        .fetch_optional(tx)
        .await
}

/// A member's role, its row locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(LOCK)
        .bind(org.0)
        .bind(user.0)
        .fetch_optional(tx)
        .await
}

/// Holds all memberships of a person, and what somebody else is in one organisation, until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn hold_in_tx(
    tx: &mut PgConnection,
    person: Uuid,
    org: Uuid,
    other: Uuid,
) -> sqlx::Result<()> {
    sqlx::query(HOLD)
        .bind(person)
        .bind(org)
        .bind(other)
        .execute(tx)
        .await?;
    Ok(())
}

/// How many OWNERs there are.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn owners_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<i64> {
    sqlx::query_scalar(OWNERS).bind(org.0).fetch_one(tx).await
}

/// Gives a member another role; gives the version of the event.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn edit_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
    role: Role,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(EDIT)
        .bind(org.0)
        .bind(user.0)
        .bind(role.as_str())
        .fetch_one(tx)
        .await
}

/// Removes a member; gives the version of the event.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn remove_in_tx(tx: &mut PgConnection, org: OrgId, user: UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar(REMOVE)
        .bind(org.0)
        .bind(user.0)
        .fetch_one(tx)
        .await
}

/// Whether somebody of this address, which is in lower case, is a member.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn is_member_in_tx(tx: &mut PgConnection, org: OrgId, email: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(IS_MEMBER)
        .bind(org.0)
        .bind(email)
        .fetch_one(tx)
        .await
}

/// A version for an event about a person that no statement above gives.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn version_in_tx(tx: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(VERSION).fetch_one(tx).await
}

//! People and their memberships.

use domain::access::Role;
use domain::{OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

// A person who belongs to several organisations comes into the one joined first, unless one is named. Closed ones are none.
// `home` is where it is told of what goes wrong, whatever is named.
const LOGIN: &str = "SELECT u.id, u.password_hash, u.disabled_at IS NOT NULL AS disabled, m.org_id,
        (SELECT h.org_id FROM identity.memberships AS h WHERE h.user_id = u.id
            ORDER BY h.created_at, h.org_id LIMIT 1) AS home
    FROM identity.users AS u
    LEFT JOIN (identity.memberships AS m
        JOIN identity.organizations AS o ON o.org_id = m.org_id AND o.closed_at IS NULL)
        ON m.user_id = u.id AND ($2::uuid IS NULL OR m.org_id = $2)
    WHERE u.email = $1 ORDER BY m.created_at, m.org_id LIMIT 1";

const INSERT: &str =
    "INSERT INTO identity.users (id, email, name, password_hash, password_changed_at)
    VALUES ($1, $2, $3, $4, now()) ON CONFLICT ON CONSTRAINT users_email_key DO NOTHING";

// The first of all, and nobody after.
const FIRST_PLATFORM_ADMIN: &str = "UPDATE identity.users SET platform_admin = true
    WHERE id = $1 AND NOT EXISTS (SELECT FROM identity.users WHERE platform_admin)";

const PLATFORM_ADMIN: &str =
    "UPDATE identity.users SET platform_admin = true WHERE email = $1 RETURNING id";

const BY_EMAIL: &str =
    "SELECT id, email, name, password_hash, platform_admin, disabled_at IS NOT NULL AS disabled,
        (SELECT count(*) FROM identity.memberships AS m WHERE m.user_id = u.id) AS organizations
    FROM identity.users AS u WHERE email = $1";

const BY_ID: &str =
    "SELECT id, email, name, password_hash, platform_admin, disabled_at IS NOT NULL AS disabled,
        (SELECT count(*) FROM identity.memberships AS m WHERE m.user_id = u.id) AS organizations
    FROM identity.users AS u WHERE id = $1";

// Only instead of the password that was looked at: of two changes at once one holds.
const PASSWORD: &str = "UPDATE identity.users SET password_hash = $2, password_changed_at = now()
    WHERE id = $1 AND password_hash = $3 RETURNING id";

// Nobody makes the person a member of anything until the commit: that needs the row.
const LOCK: &str = "SELECT password_hash, disabled_at IS NOT NULL AS disabled
    FROM identity.users WHERE id = $1 FOR UPDATE";

const ID: &str = "SELECT id FROM identity.users WHERE email = $1";

const MEMBERSHIP_INSERT: &str = "INSERT INTO identity.memberships (org_id, user_id, role)
    VALUES ($1, $2, $3) ON CONFLICT ON CONSTRAINT memberships_pkey DO NOTHING";

const PERSON: &str = "SELECT email, name FROM identity.users WHERE id = $1";

/// What a login needs to know of a person.
#[derive(FromRow)]
pub struct LoginRow {
    /// The person.
    pub id: Uuid,
    /// Argon2id, in the PHC format.
    pub password_hash: String,
    /// Whether the account is disabled.
    pub disabled: bool,
    /// The organisation to come into; absent when the person belongs to none.
    pub org_id: Option<Uuid>,
    /// The organisation that the person joined first, open or not.
    pub home: Option<Uuid>,
}

// Nobody is in so many; what is beyond is not told.
const ORGANIZATIONS: &str =
    "SELECT org_id FROM identity.memberships WHERE user_id = $1 ORDER BY org_id LIMIT 1000";

/// A person, whole.
#[derive(FromRow)]
pub struct PersonRow {
    /// The person.
    pub id: Uuid,
    /// The address, in lower case.
    pub email: String,
    /// The name.
    pub name: String,
    /// Argon2id, in the PHC format.
    pub password_hash: String,
    /// Whether the person administers the installation.
    pub platform_admin: bool,
    /// Whether the account is disabled.
    pub disabled: bool,
    /// Of how many organisations the person is a member.
    pub organizations: i64,
}

/// The person of this address, which is in lower case, and the organisation to come into.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn login(
    connection: impl PgExecutor<'_>,
    email: &str,
    organization: Option<OrgId>,
) -> sqlx::Result<Option<LoginRow>> {
    sqlx::query_as(LOGIN)
        .bind(email)
        .bind(organization.map(|org| org.0))
        .fetch_optional(connection)
        .await
}

/// The id of the person of this address.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn id(connection: impl PgExecutor<'_>, email: &str) -> sqlx::Result<Option<UserId>> {
    let id: Option<Uuid> = sqlx::query_scalar(ID)
        .bind(email)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(UserId))
}

/// A new person; `false` when somebody has the address.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(
    tx: &mut PgConnection,
    id: UserId,
    email: &str,
    name: &str,
    password_hash: &str,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query(INSERT)
        .bind(id.0)
        .bind(email)
        .bind(name)
        .bind(password_hash)
        .execute(tx)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Makes a person platform administrator, if nobody is.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn first_platform_admin_in_tx(tx: &mut PgConnection, id: UserId) -> sqlx::Result<()> {
    sqlx::query(FIRST_PLATFORM_ADMIN)
        .bind(id.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// Makes the person of this address platform administrator; absent when there is no such person.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn platform_admin_in_tx(
    tx: &mut PgConnection,
    email: &str,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar(PLATFORM_ADMIN)
        .bind(email)
        .fetch_optional(tx)
        .await
}

/// The person of this address, which is in lower case.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_email(
    connection: impl PgExecutor<'_>,
    email: &str,
) -> sqlx::Result<Option<PersonRow>> {
    sqlx::query_as(BY_EMAIL)
        .bind(email)
        .fetch_optional(connection)
        .await
}

/// A person.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_id(connection: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<PersonRow>> {
    sqlx::query_as(BY_ID)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// The hash of a person's password, and whether the account is disabled, locked until the commit.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn lock_in_tx(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<(String, bool)>> {
    sqlx::query_as(LOCK).bind(id).fetch_optional(tx).await
}

/// A new password instead of the one of this hash; `false` when it is another by now.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn password_in_tx(
    tx: &mut PgConnection,
    id: Uuid,
    password_hash: &str,
    instead_of: &str,
) -> sqlx::Result<bool> {
    let changed: Option<Uuid> = sqlx::query_scalar(PASSWORD)
        .bind(id)
        .bind(password_hash)
        .bind(instead_of)
        .fetch_optional(tx)
        .await?;
    Ok(changed.is_some())
}

/// Makes a person a member; `false` when the person is one.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn membership_ensure_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
    role: Role,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query(MEMBERSHIP_INSERT)
        .bind(org.0)
        .bind(user.0)
        .bind(role.as_str())
        .execute(tx)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Address and name of a member of the transaction's organisation.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn person_in_tx(
    tx: &mut PgConnection,
    user: Uuid,
) -> sqlx::Result<Option<(String, String)>> {
    sqlx::query_as(PERSON).bind(user).fetch_optional(tx).await
}

/// The organisations that a person belongs to.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn organizations_in_tx(tx: &mut PgConnection, user: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(ORGANIZATIONS)
        .bind(user)
        .fetch_all(tx)
        .await
}

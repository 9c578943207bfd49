//! People and their memberships.

use domain::access::Role;
use domain::{OrgId, UserId};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

// A person who belongs to several organisations comes into the one joined first.
const LOGIN: &str = "SELECT u.id, u.password_hash, m.org_id
    FROM identity.users AS u LEFT JOIN identity.memberships AS m ON m.user_id = u.id
    WHERE u.email = $1 ORDER BY m.created_at, m.org_id LIMIT 1";

const INSERT: &str = "INSERT INTO identity.users (id, email, name, password_hash)
    VALUES ($1, $2, $3, $4) ON CONFLICT ON CONSTRAINT users_email_key DO NOTHING";

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
    /// The organisation to come into; absent when the person belongs to none.
    pub org_id: Option<Uuid>,
}

/// The person of this address, which is in lower case.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn login(connection: impl PgExecutor<'_>, email: &str) -> sqlx::Result<Option<LoginRow>> {
    sqlx::query_as(LOGIN)
        .bind(email)
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

/// A new person.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn insert_in_tx(
    tx: &mut PgConnection,
    id: UserId,
    email: &str,
    password_hash: &str,
) -> sqlx::Result<()> {
    let name = email.split('@').next().unwrap_or(email);
    sqlx::query(INSERT)
        .bind(id.0)
        .bind(email)
        .bind(name)
        .bind(password_hash)
        .execute(tx)
        .await?;
    Ok(())
}

/// Makes a person a member, unless the person is one.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn membership_ensure_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    user: UserId,
    role: Role,
) -> sqlx::Result<()> {
    sqlx::query(MEMBERSHIP_INSERT)
        .bind(org.0)
        .bind(user.0)
        .bind(role.as_str())
        .execute(tx)
        .await?;
    Ok(())
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

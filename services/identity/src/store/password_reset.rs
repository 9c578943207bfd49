//! Links to set a new password. Of their secrets only hashes are here.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

// Asked for by strangers, an address has at most five at a time: more would only fill a mailbox.
const ASK: &str =
    "INSERT INTO identity.password_resets (id, email, hash, created_at, expires_at, mail_due_at)
    SELECT $1, $2, $3, now(), now() + make_interval(secs => $4), now()
    WHERE (SELECT count(*) FROM identity.password_resets
        WHERE email = $2 AND created_by IS NULL AND expires_at > now()) < 5";

const MAKE: &str = "INSERT INTO identity.password_resets
        (id, email, hash, created_at, expires_at, created_by, mail_due_at)
    VALUES ($1, $2, $3, now(), now() + make_interval(secs => $4), $5, CASE WHEN $6 THEN now() END)
    RETURNING expires_at";

const BY_HASH: &str =
    "SELECT email FROM identity.password_resets WHERE hash = $1 AND expires_at > now()";

// The others of the same person are void too.
const TAKE: &str = "DELETE FROM identity.password_resets WHERE email = $2 AND EXISTS (
        SELECT FROM identity.password_resets AS mine WHERE mine.hash = $1 AND mine.expires_at > now())
    RETURNING hash = $1";

const DUE: &str = "UPDATE identity.password_resets AS r
    SET hash = $1, mail_tries = least(r.mail_tries + 1, 30),
        mail_due_at = now() + make_interval(secs => 15 * 2 ^ least(r.mail_tries, 6))
    WHERE r.id = (
        SELECT id FROM identity.password_resets
        WHERE mail_due_at <= now() AND expires_at > now()
        ORDER BY mail_due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING r.email, r.expires_at,
        EXISTS (SELECT FROM identity.users AS u WHERE u.email = r.email AND u.disabled_at IS NULL) AS known";

const SENT: &str = "UPDATE identity.password_resets SET mail_due_at = NULL WHERE hash = $1";

const DELETE_OLD: &str = "DELETE FROM identity.password_resets WHERE id IN (
    SELECT id FROM identity.password_resets WHERE expires_at < now() LIMIT $1)";

/// A mail that is due.
#[derive(Clone, Debug, FromRow)]
pub struct DueRow {
    /// To whom.
    pub email: String,
    /// Until when the link works.
    pub expires_at: DateTime<Utc>,
    /// Whether there is such a person at all.
    pub known: bool,
}

/// A link that somebody who forgot a password asks for, to be mailed, whoever that may be.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn ask(
    connection: impl PgExecutor<'_>,
    email: &str,
    hash: &Hash,
    seconds: f64,
) -> sqlx::Result<()> {
    sqlx::query(ASK)
        .bind(Uuid::now_v7())
        .bind(email)
        .bind(hash)
        .bind(seconds)
        .execute(connection)
        .await?;
    Ok(())
}

/// A link that an administrator makes for somebody, to be mailed or shown; gives when it expires.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn make_in_tx(
    tx: &mut PgConnection,
    email: &str,
    hash: &Hash,
    seconds: f64,
    by: Uuid,
    mailed: bool,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar(MAKE)
        .bind(Uuid::now_v7())
        .bind(email)
        .bind(hash)
        .bind(seconds)
        .bind(by)
        .bind(mailed)
        .fetch_one(tx)
        .await
}

/// The address of a link that works.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_hash(connection: impl PgExecutor<'_>, hash: &Hash) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(BY_HASH)
        .bind(hash)
        .fetch_optional(connection)
        .await
}

/// Takes a link, once, and with it all others of the same address; `false` when somebody did before.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn take_in_tx(tx: &mut PgConnection, hash: &Hash, email: &str) -> sqlx::Result<bool> {
    let taken: Vec<bool> = sqlx::query_scalar(TAKE)
        .bind(hash)
        .bind(email)
        .fetch_all(tx)
        .await?;
    Ok(taken.contains(&true))
}

/// A link whose mail is due, with this new secret; it is due again later unless it is said to be sent.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn due(connection: impl PgExecutor<'_>, hash: &Hash) -> sqlx::Result<Option<DueRow>> {
    sqlx::query_as(DUE)
        .bind(hash)
        .fetch_optional(connection)
        .await
}

/// The mail with this secret was sent, or is not to be.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn sent(connection: impl PgExecutor<'_>, hash: &Hash) -> sqlx::Result<()> {
    sqlx::query(SENT).bind(hash).execute(connection).await?;
    Ok(())
}

/// Deletes at most `limit` links that expired; says how many.
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

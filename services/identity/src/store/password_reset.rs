//! Links to set a new password. Of their secrets only hashes are here.

use chrono::{DateTime, Utc};
use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

// Asked for by strangers, an address has at most five at a time: more would only fill a mailbox.
const ASK: &str =
    "INSERT INTO identity.password_resets (id, email, hash, created_at, expires_at, mail_due_at)
    SELECT $1, $2, $3, now(), now() + make_interval(secs => $4), now()
    WHERE (SELECT count(*) FROM identity.password_resets
        WHERE email = $2 AND created_by IS NULL AND expires_at > now()) < 5";

// What a person is, everywhere, in one hash. What follows says whose address it is, and groups.
macro_rules! standing {
    () => {
        "SELECT sha256(convert_to(concat(u.platform_admin, ' ',
                string_agg(concat(m.org_id, ' ', m.role), ',' ORDER BY m.org_id)), 'UTF8'))
            FROM identity.users AS u LEFT JOIN identity.memberships AS m ON m.user_id = u.id
            WHERE u.email = "
    };
}

const MAKE: &str = concat!(
    "INSERT INTO identity.password_resets
        (id, email, hash, created_at, expires_at, created_by, made_in, shown, mail_due_at, standing)
    VALUES ($1, $2, $3, now(), now() + make_interval(secs => $4), $5, $6, NOT $7::boolean,
        CASE WHEN $7::boolean THEN now() END, (",
    standing!(),
    "$2 GROUP BY u.id, u.platform_admin))
    RETURNING expires_at"
);

const BY_HASH: &str = "SELECT email, created_by, made_in FROM identity.password_resets
    WHERE hash = $1 AND expires_at > now()";

// Whoever made it counts for nothing when disabled or no member (any more), or where the organisation is closed.
const JUDGED: &str = concat!(
    "SELECT r.shown, maker.role AS maker_role, coalesce(b.platform_admin, false) AS maker_platform_admin,
        target.role AS target_role, p.platform_admin,
        (SELECT count(*) FROM identity.memberships AS m WHERE m.user_id = p.id) AS organizations,
        coalesce(r.standing = (",
    standing!(),
    "r.email GROUP BY u.id, u.platform_admin), false) AS unchanged
    FROM identity.password_resets AS r
    JOIN identity.users AS p ON p.email = r.email
    LEFT JOIN (identity.memberships AS maker
        JOIN identity.users AS b ON b.id = maker.user_id AND b.disabled_at IS NULL
        JOIN identity.organizations AS o ON o.org_id = maker.org_id AND o.closed_at IS NULL)
        ON maker.org_id = r.made_in AND maker.user_id = r.created_by
    LEFT JOIN identity.memberships AS target ON target.org_id = r.made_in AND target.user_id = p.id
    WHERE r.hash = $1"
);

const VOID: &str = "DELETE FROM identity.password_resets WHERE email = $1";

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

/// A link that works.
#[derive(Clone, Debug, FromRow)]
pub struct LinkRow {
    /// Whose password it sets.
    pub email: String,
    /// Who made it, if not the person.
    pub created_by: Option<Uuid>,
    /// Where that one had the right to; absent for who forgot a password, and for the command.
    pub made_in: Option<Uuid>,
}

/// What a link that an administrator made is judged by: what everybody is now.
#[derive(Clone, Debug, FromRow)]
pub struct JudgedRow {
    /// Whether it was shown to the administrator, instead of being mailed to the person.
    pub shown: bool,
    /// What the administrator is where it was made; absent when nobody there any more.
    pub maker_role: Option<String>,
    /// Whether the administrator administers the installation.
    pub maker_platform_admin: bool,
    /// What the person is where it was made; absent when no member any more.
    pub target_role: Option<String>,
    /// Whether the person administers the installation.
    pub platform_admin: bool,
    /// Of how many organisations the person is a member.
    pub organizations: i64,
    /// Whether the person is everywhere what the person was when the link was made.
    pub unchanged: bool,
}

/// Who makes a link for somebody.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    /// The administrator; nil for the command.
    pub by: Uuid,
    /// Where the administrator has the right to; absent for the command.
    pub org: Option<OrgId>,
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
    maker: Maker,
    mailed: bool,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar(MAKE)
        .bind(Uuid::now_v7())
        .bind(email)
        .bind(hash)
        .bind(seconds)
        .bind(maker.by)
        .bind(maker.org.map(|org| org.0))
        .bind(mailed)
        .fetch_one(tx)
        .await
}

/// A link that works.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn by_hash(
    connection: impl PgExecutor<'_>,
    hash: &Hash,
) -> sqlx::Result<Option<LinkRow>> {
    sqlx::query_as(BY_HASH)
        .bind(hash)
        .fetch_optional(connection)
        .await
}

/// What a link is judged by, which an administrator made; absent when it, or the person, is gone.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn judged_in_tx(tx: &mut PgConnection, hash: &Hash) -> sqlx::Result<Option<JudgedRow>> {
    sqlx::query_as(JUDGED).bind(hash).fetch_optional(tx).await
}

/// Voids all links of an address.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn void_in_tx(tx: &mut PgConnection, email: &str) -> sqlx::Result<()> {
    sqlx::query(VOID).bind(email).execute(tx).await?;
    Ok(())
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

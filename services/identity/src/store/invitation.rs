//! Invitations. Of the links' secrets only hashes are here.

use chrono::{DateTime, Utc};
use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

// Inviting again replaces what was: role, link, and who invites. What an OWNER is to become, only an OWNER replaces.
const PUT: &str = "INSERT INTO identity.invitations AS i
        (org_id, id, email, role, hash, created_at, expires_at, created_by, mail_due_at)
    VALUES ($1, $2, $3, $4, $5, now(), now() + make_interval(secs => $6), $7, CASE WHEN $8 THEN now() END)
    ON CONFLICT ON CONSTRAINT invitations_email_key DO UPDATE
        SET role = excluded.role, hash = $5, created_at = excluded.created_at,
            expires_at = excluded.expires_at, created_by = excluded.created_by,
            mail_due_at = excluded.mail_due_at, mail_tries = 0
        WHERE i.role <> 'OWNER' OR $9::boolean OR i.expires_at <= now()
    RETURNING id, email, role, created_at, expires_at, mail_due_at IS NOT NULL AS mail_pending";

const LIST: &str =
    "SELECT id, email, role, created_at, expires_at, mail_due_at IS NOT NULL AS mail_pending
    FROM identity.invitations WHERE org_id = $1 AND id > $2 ORDER BY id LIMIT $3";

const CANCEL: &str =
    "DELETE FROM identity.invitations WHERE org_id = $1 AND id = $2 RETURNING role";

const BY_HASH: &str = "SELECT i.org_id, i.id, i.email, i.role, i.created_by, m.role AS inviter_role
    FROM identity.invitations AS i
    JOIN identity.organizations AS o ON o.org_id = i.org_id AND o.closed_at IS NULL
    LEFT JOIN identity.memberships AS m ON m.org_id = i.org_id AND m.user_id = i.created_by
    WHERE i.hash = $1 AND i.expires_at > now()";

const TAKE: &str =
    "DELETE FROM identity.invitations WHERE hash = $1 AND expires_at > now() RETURNING id";

const DUE: &str = "UPDATE identity.invitations AS i
    SET hash = $1, mail_tries = least(i.mail_tries + 1, 30),
        mail_due_at = now() + make_interval(secs => 15 * 2 ^ least(i.mail_tries, 6))
    FROM identity.organizations AS o
    WHERE o.org_id = i.org_id AND (i.org_id, i.id) = (
        SELECT org_id, id FROM identity.invitations
        WHERE mail_due_at <= now() AND expires_at > now()
        ORDER BY mail_due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING i.email, o.name AS organization, i.expires_at";

const SENT: &str = "UPDATE identity.invitations SET mail_due_at = NULL WHERE hash = $1";

const DELETE_OLD: &str = "DELETE FROM identity.invitations WHERE (org_id, id) IN (
    SELECT org_id, id FROM identity.invitations WHERE expires_at < now() - interval '7 days' LIMIT $1)";

/// An invitation, as those see it who invite.
#[derive(Clone, Debug, FromRow)]
pub struct InvitationRow {
    /// Its id.
    pub id: Uuid,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when its link works.
    pub expires_at: DateTime<Utc>,
    /// Whether a mail has yet to leave.
    pub mail_pending: bool,
}

/// An invitation, as whoever has its link sees it.
#[derive(Clone, Debug, FromRow)]
pub struct LinkRow {
    /// The organisation.
    pub org_id: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// Who invited.
    pub created_by: Uuid,
    /// What that person is now; absent when no member any more.
    pub inviter_role: Option<String>,
}

/// A mail that is due.
#[derive(Clone, Debug, FromRow)]
pub struct DueRow {
    /// To whom.
    pub email: String,
    /// The name of the organisation.
    pub organization: String,
    /// Until when the link works.
    pub expires_at: DateTime<Utc>,
}

/// An invitation to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewInvitation<'a> {
    /// Whom; in lower case.
    pub email: &'a str,
    /// As what.
    pub role: &'a str,
    /// For how many seconds its link works.
    pub seconds: f64,
    /// Who invites.
    pub created_by: Uuid,
    /// Whether it is mailed.
    pub mailed: bool,
    /// Whether an OWNER invites, who alone may replace an OWNER's invitation.
    pub by_owner: bool,
}

/// Makes or replaces the invitation of an address; nothing when there is one that whoever invites may not replace.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn put_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    hash: &Hash,
    new: NewInvitation<'_>,
) -> sqlx::Result<Option<InvitationRow>> {
    sqlx::query_as(PUT)
        .bind(org.0)
        .bind(Uuid::now_v7())
        .bind(new.email)
        .bind(new.role)
        .bind(hash)
        .bind(new.seconds)
        .bind(new.created_by)
        .bind(new.mailed)
        .bind(new.by_owner)
        .fetch_optional(tx)
        .await
}

/// Invitations after one, the oldest first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<InvitationRow>> {
    sqlx::query_as(LIST)
        .bind(org.0)
        .bind(after)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// Removes an invitation; gives as what it invited, or nothing when there is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn cancel_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(CANCEL)
        .bind(org.0)
        .bind(id)
        .fetch_optional(tx)
        .await
}

/// The invitation of a link that works.
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

/// Takes an invitation, once; `false` when somebody did before.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn take_in_tx(tx: &mut PgConnection, hash: &Hash) -> sqlx::Result<bool> {
    let taken: Option<Uuid> = sqlx::query_scalar(TAKE)
        .bind(hash)
        .fetch_optional(tx)
        .await?;
    Ok(taken.is_some())
}

/// An invitation whose mail is due, with this new secret; it is due again later unless it is said to be sent.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn due(connection: impl PgExecutor<'_>, hash: &Hash) -> sqlx::Result<Option<DueRow>> {
    sqlx::query_as(DUE)
        .bind(hash)
        .fetch_optional(connection)
        .await
}

/// The mail with this secret was sent.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn sent(connection: impl PgExecutor<'_>, hash: &Hash) -> sqlx::Result<()> {
    sqlx::query(SENT).bind(hash).execute(connection).await?;
    Ok(())
}

/// Deletes at most `limit` invitations that expired long ago; says how many.
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

//! Enrolment tokens. Only hashes are here.

use chrono::{DateTime, Utc};
use domain::OrgId;
use domain::labels::Labels;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::Hash;

// The one conditional update that decides: it counts, and of two that want the last use, in all or in this hour, one
// gets it. An hour begins with the first use after the one before.
const USE: &str = "UPDATE identity.enrollment_tokens AS t SET uses_left = uses_left - 1,
        hour_at = CASE WHEN hour_at > now() - interval '1 hour' THEN hour_at ELSE now() END,
        hour_uses = CASE WHEN hour_at > now() - interval '1 hour' THEN hour_uses + 1 ELSE 1 END
    WHERE hash = $1 AND revoked_at IS NULL AND expires_at > now() AND uses_left > 0
        AND (hourly_cap IS NULL OR hour_uses < hourly_cap OR hour_at IS NULL OR hour_at <= now() - interval '1 hour')
        AND EXISTS (SELECT FROM identity.organizations AS o WHERE o.org_id = t.org_id AND o.closed_at IS NULL)
    RETURNING org_id, id";

const WHY_NOT: &str = "SELECT org_id, t.id, expires_at, uses_left, expires_at <= now() AS expired,
        revoked_at IS NOT NULL AS revoked, labels, o.closed_at IS NOT NULL AS closed,
        CASE WHEN hour_uses >= hourly_cap AND hour_at > now() - interval '1 hour'
            THEN least(3600000, extract(epoch FROM hour_at + interval '1 hour' - now()) * 1000)::int8 END AS full_ms
    FROM identity.enrollment_tokens AS t JOIN identity.organizations AS o USING (org_id) WHERE hash = $1";

const CREATE: &str = "INSERT INTO identity.enrollment_tokens
        (org_id, id, name, hash, labels, uses, uses_left, hourly_cap, expires_at, created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9)";

const LIST: &str = "SELECT id, name, labels, uses, uses_left, hourly_cap, created_by, created_at, expires_at, revoked_at
    FROM identity.enrollment_tokens WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

const GET: &str = "SELECT id, name, labels, uses, uses_left, hourly_cap, created_by, created_at, expires_at, revoked_at
    FROM identity.enrollment_tokens WHERE org_id = $1 AND id = $2";

const REVOKE: &str =
    "UPDATE identity.enrollment_tokens SET revoked_at = coalesce(revoked_at, now())
    WHERE org_id = $1 AND id = $2 RETURNING id";

const HAS_HASH: &str =
    "SELECT hash = $3 FROM identity.enrollment_tokens WHERE org_id = $1 AND id = $2";

// A token that expired lives again; one that was revoked does not.
const ENSURE: &str = "INSERT INTO identity.enrollment_tokens AS t
        (org_id, id, name, hash, expires_at, uses, uses_left)
    VALUES ($1, $2, $3, $4, now() + make_interval(days => $5), $6, $6)
    ON CONFLICT ON CONSTRAINT enrollment_tokens_hash_key DO UPDATE
        SET expires_at = excluded.expires_at, uses = excluded.uses, uses_left = excluded.uses_left
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
    /// What its machines are labelled with.
    pub labels: Json<Labels>,
    /// Whether the organisation is closed.
    pub closed: bool,
    /// When as many as may have enrolled within an hour: in how many milliseconds that hour ends.
    pub full_ms: Option<i64>,
}

/// A token, as those see it who manage it.
#[derive(Clone, Debug, FromRow)]
pub struct TokenView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What its machines are labelled with.
    pub labels: Json<Labels>,
    /// How many machines may enrol with it.
    pub uses: i32,
    /// How many still may.
    pub uses_left: i32,
    /// How many may in an hour.
    pub hourly_cap: Option<i32>,
    /// Who made it.
    pub created_by: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a token; `uses_left`, `created_at` and `revoked_at` of `token` are not looked at.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn create_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    token: &TokenView,
    hash: &Hash,
) -> sqlx::Result<()> {
    sqlx::query(CREATE)
        .bind(org.0)
        .bind(token.id)
        .bind(&token.name)
        .bind(hash)
        .bind(&token.labels)
        .bind(token.uses)
        .bind(token.hourly_cap)
        .bind(token.expires_at)
        .bind(token.created_by)
        .execute(tx)
        .await?;
    Ok(())
}

/// Tokens before one, the newest first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<TokenView>> {
    sqlx::query_as(LIST)
        .bind(org.0)
        .bind(before)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// A token.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    id: Uuid,
) -> sqlx::Result<Option<TokenView>> {
    sqlx::query_as(GET)
        .bind(org.0)
        .bind(id)
        .fetch_optional(tx)
        .await
}

/// Revokes a token; `false` when there is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn revoke_in_tx(tx: &mut PgConnection, org: OrgId, id: Uuid) -> sqlx::Result<bool> {
    let revoked: Option<Uuid> = sqlx::query_scalar(REVOKE)
        .bind(org.0)
        .bind(id)
        .fetch_optional(tx)
        .await?;
    Ok(revoked.is_some())
}

/// Whether a token is the one of this hash.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn has_hash(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    id: Uuid,
    hash: &Hash,
) -> sqlx::Result<bool> {
    let has: Option<bool> = sqlx::query_scalar(HAS_HASH)
        .bind(org.0)
        .bind(id)
        .bind(hash)
        .fetch_optional(connection)
        .await?;
    Ok(has.unwrap_or_default())
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

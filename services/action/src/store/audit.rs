//! Copies of what this service signed of identity's audit: a chain of their own for each organisation. Migration 0009.

use chrono::{DateTime, Utc};
use contract::audit::chain::Hash;
use contract::audit::{Head, HeadSignature, SignedHead};
use database::{DatabaseError, Tx};
use domain::OrgId;
use sqlx::PgPool;
use uuid::Uuid;

// One replica in so many seconds.
const TURN: &str = "INSERT INTO action.audit_turns (name, taken_at) VALUES ('countersign', now())
    ON CONFLICT ON CONSTRAINT audit_turns_pkey DO UPDATE SET taken_at = now()
    WHERE audit_turns.taken_at <= now() - make_interval(secs => $1)
    RETURNING name";

// Two replicas that sign at once all the same do so one after the other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('dashfleet.action'), hashtext('audit'))";

const LATEST: &str = "SELECT latest.* FROM unnest($1::uuid[]) AS given (org_id) CROSS JOIN LATERAL (
        SELECT org_id, seq, hash, at, kid, signature, prev, link FROM action.audit_heads_signed AS signed
        WHERE signed.org_id = given.org_id ORDER BY seq DESC LIMIT 1
    ) AS latest";

const INSERT: &str = "INSERT INTO action.audit_heads_signed (org_id, seq, hash, at, kid, signature, prev, link)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::text[], $6::bytea[], $7::bytea[], $8::bytea[])
    RETURNING org_id";

// Where something else is at its place by now, that stays, for whoever verifies.
const RESTORE: &str = "INSERT INTO action.audit_heads_signed (org_id, seq, hash, at, kid, signature, prev, link)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::text[], $6::bytea[], $7::bytea[], $8::bytea[])
    ON CONFLICT DO NOTHING RETURNING org_id";

const KEPT: &str = "SELECT signed.org_id, signed.seq, signed.hash, signed.at, signed.kid, signed.signature, signed.prev, signed.link
    FROM unnest($1::uuid[], $2::bigint[]) AS given (org_id, seq)
    JOIN action.audit_heads_signed AS signed ON signed.org_id = given.org_id AND signed.seq = given.seq";

const PAGE: &str =
    "SELECT org_id, seq, hash, at, kid, signature, prev, link FROM action.audit_heads_signed
    WHERE org_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3";

const DROP: &str = "SELECT action.audit_heads_signed_drop($1, $2)";

#[derive(Debug, sqlx::FromRow)]
struct Row {
    org_id: Uuid,
    seq: i64,
    hash: Vec<u8>,
    at: DateTime<Utc>,
    kid: String,
    signature: Vec<u8>,
    prev: Vec<u8>,
    link: Vec<u8>,
}

impl From<Row> for SignedHead {
    fn from(row: Row) -> Self {
        // The table takes no other length.
        let hash = |bytes: Vec<u8>| Hash::try_from(bytes).unwrap_or_default();
        Self {
            signature: HeadSignature {
                head: Head {
                    org: row.org_id.into(),
                    seq: row.seq,
                    hash: hash(row.hash),
                },
                at: row.at.into(),
                kid: row.kid,
                sig: row.signature,
            },
            prev: hash(row.prev),
            link: hash(row.link),
        }
    }
}

/// Whether it is this replica's turn: nobody had one for so many seconds.
///
/// # Errors
/// [`DatabaseError`].
pub async fn turn_take(pool: &PgPool, seconds: f64) -> Result<bool, DatabaseError> {
    let taken: Option<String> = sqlx::query_scalar(TURN)
        .bind(seconds)
        .fetch_optional(pool)
        .await?;
    Ok(taken.is_some())
}

/// The last copy of each of these organisations, where there is one; nobody adds any until the commit.
///
/// # Errors
/// [`DatabaseError`].
pub async fn latest_lock_in_tx(
    tx: &mut Tx,
    orgs: &[Uuid],
) -> Result<Vec<SignedHead>, DatabaseError> {
    sqlx::query(LOCK).execute(&mut **tx).await?;
    let rows: Vec<Row> = sqlx::query_as(LATEST)
        .bind(orgs)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Those of these copies that are there, or whatever is at their places.
///
/// # Errors
/// [`DatabaseError`].
pub async fn signed_kept_in_tx(
    tx: &mut Tx,
    known: &[SignedHead],
) -> Result<Vec<SignedHead>, DatabaseError> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let heads = || known.iter().map(|copy| &copy.signature.head);
    let rows: Vec<Row> = sqlx::query_as(KEPT)
        .bind(heads().map(|head| head.org.0).collect::<Vec<_>>())
        .bind(heads().map(|head| head.seq).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Adds copies.
///
/// # Errors
/// [`DatabaseError`].
pub async fn signed_add_in_tx(tx: &mut Tx, signed: &[SignedHead]) -> Result<(), DatabaseError> {
    write_in_tx(tx, INSERT, signed).await.map(drop)
}

/// Puts copies back that somebody removed; gives the organisations of those that had a place.
///
/// # Errors
/// [`DatabaseError`].
pub async fn signed_restore_in_tx(
    tx: &mut Tx,
    signed: &[SignedHead],
) -> Result<Vec<Uuid>, DatabaseError> {
    write_in_tx(tx, RESTORE, signed).await
}

async fn write_in_tx(
    tx: &mut Tx,
    statement: &'static str,
    signed: &[SignedHead],
) -> Result<Vec<Uuid>, DatabaseError> {
    let given = || signed.iter().map(|copy| &copy.signature);
    let written = sqlx::query_scalar(statement)
        .bind(given().map(|one| one.head.org.0).collect::<Vec<_>>())
        .bind(given().map(|one| one.head.seq).collect::<Vec<_>>())
        .bind(given().map(|one| &one.head.hash[..]).collect::<Vec<_>>())
        .bind(given().map(|one| one.at.utc()).collect::<Vec<_>>())
        .bind(given().map(|one| one.kid.as_str()).collect::<Vec<_>>())
        .bind(given().map(|one| one.sig.as_slice()).collect::<Vec<_>>())
        .bind(signed.iter().map(|copy| &copy.prev[..]).collect::<Vec<_>>())
        .bind(signed.iter().map(|copy| &copy.link[..]).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    Ok(written)
}

/// Copies from one place on, in the order of the chain.
///
/// # Errors
/// [`DatabaseError`].
pub async fn signed_in_tx(
    tx: &mut Tx,
    org: OrgId,
    from: i64,
    limit: i64,
) -> Result<Vec<SignedHead>, DatabaseError> {
    let rows: Vec<Row> = sqlx::query_as(PAGE)
        .bind(org.0)
        .bind(from)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Removes copies that are too old; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn signed_drop(pool: &PgPool, days: i32, portion: i32) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(DROP)
        .bind(days)
        .bind(portion)
        .fetch_one(pool)
        .await?)
}

//! Ends of chains, and what action gave back for them.

use contract::audit::HeadSignature;
use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

const HEAD: &str =
    "SELECT seq, hash, anchor_seq, anchor_hash FROM identity.audit_heads WHERE org_id = $1";

const UNSIGNED: &str = "SELECT org_id, seq, hash FROM identity.audit_heads
    WHERE signed_seq < seq AND ($1::uuid IS NULL OR org_id > $1) ORDER BY org_id LIMIT $2";

const ORGS: &str = "SELECT org_id FROM identity.audit_heads
    WHERE $1::uuid IS NULL OR org_id > $1 ORDER BY org_id LIMIT $2";

// What another replica of action signed is as good. Of what is not there yet nothing is kept: its place is another's.
const COUNTERSIGN: &str =
    "INSERT INTO identity.audit_countersigns (org_id, seq, hash, at, kid, signature)
    SELECT given.org_id, given.seq, given.hash, given.at, given.kid, given.signature
    FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::text[], $6::bytea[])
        AS given (org_id, seq, hash, at, kid, signature)
    JOIN identity.audit_heads AS head ON head.org_id = given.org_id AND head.seq >= given.seq
    ON CONFLICT ON CONSTRAINT audit_countersigns_pkey DO NOTHING";

// In the order in which those who append lock them.
const SIGNED: &str = "WITH given AS (
        SELECT org_id, max(seq) AS seq FROM unnest($1::uuid[], $2::bigint[]) AS given (org_id, seq) GROUP BY org_id
    ), locked AS (
        SELECT head.org_id, given.seq FROM identity.audit_heads AS head JOIN given ON given.org_id = head.org_id
        WHERE head.signed_seq < given.seq AND given.seq <= head.seq ORDER BY head.org_id FOR UPDATE OF head
    )
    UPDATE identity.audit_heads AS head SET signed_seq = locked.seq FROM locked WHERE head.org_id = locked.org_id";

const COUNTERSIGNS: &str =
    "SELECT org_id, seq, hash, at, kid, signature FROM identity.audit_countersigns
    WHERE org_id = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq LIMIT $4";

const SIGNED_BEFORE: &str =
    "SELECT max(seq) FROM identity.audit_countersigns WHERE org_id = $1 AND seq < $2";

const SIGNERS: &str = "SELECT public_key FROM identity.audit_signers ORDER BY known_at, public_key";

const SIGNERS_ADD: &str =
    "INSERT INTO identity.audit_signers (public_key) SELECT unnest($1::text[])
    ON CONFLICT ON CONSTRAINT audit_signers_pkey DO NOTHING";

/// The two ends of a chain.
#[derive(Clone, Debug, FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct HeadRow {
    pub seq: i64,
    pub hash: Vec<u8>,
    pub anchor_seq: i64,
    pub anchor_hash: Vec<u8>,
}

/// The end of a chain.
#[derive(Clone, Debug, FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct EndRow {
    pub org_id: Uuid,
    pub seq: i64,
    pub hash: Vec<u8>,
}

/// A signature that action gave back.
#[derive(Clone, Debug, FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct SignatureRow {
    pub org_id: Uuid,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub at: chrono::DateTime<chrono::Utc>,
    pub kid: String,
    pub signature: Vec<u8>,
}

/// The ends of an organisation's chain; `None` before its first entry.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn get_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<Option<HeadRow>> {
    sqlx::query_as(HEAD).bind(org.0).fetch_optional(tx).await
}

/// Ends that are not signed yet, of organisations behind this one.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn unsigned(
    connection: impl PgExecutor<'_>,
    after: Option<OrgId>,
    limit: i64,
) -> sqlx::Result<Vec<EndRow>> {
    sqlx::query_as(UNSIGNED)
        .bind(after.map(|org| org.0))
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// Organisations that have a chain, behind this one.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn organizations(
    connection: impl PgExecutor<'_>,
    after: Option<OrgId>,
    limit: i64,
) -> sqlx::Result<Vec<OrgId>> {
    let orgs: Vec<Uuid> = sqlx::query_scalar(ORGS)
        .bind(after.map(|org| org.0))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    Ok(orgs.into_iter().map(OrgId).collect())
}

/// Keeps signatures, and notes up to where chains are signed.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn countersign_in_tx(
    tx: &mut PgConnection,
    signatures: &[HeadSignature],
) -> sqlx::Result<()> {
    let orgs: Vec<Uuid> = signatures.iter().map(|given| given.head.org.0).collect();
    let seqs: Vec<i64> = signatures.iter().map(|given| given.head.seq).collect();
    let hashes: Vec<&[u8]> = signatures
        .iter()
        .map(|given| &given.head.hash[..])
        .collect();
    let times: Vec<_> = signatures.iter().map(|given| given.at.utc()).collect();
    let kids: Vec<&str> = signatures.iter().map(|given| given.kid.as_str()).collect();
    let bytes: Vec<&[u8]> = signatures
        .iter()
        .map(|given| given.sig.as_slice())
        .collect();
    sqlx::query(COUNTERSIGN)
        .bind(&orgs)
        .bind(&seqs)
        .bind(hashes)
        .bind(times)
        .bind(kids)
        .bind(bytes)
        .execute(&mut *tx)
        .await?;
    sqlx::query(SIGNED)
        .bind(&orgs)
        .bind(&seqs)
        .execute(tx)
        .await?;
    Ok(())
}

/// Signatures of ends from one place to another, in their order.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn countersigns_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    from: i64,
    to: i64,
    limit: i64,
) -> sqlx::Result<Vec<SignatureRow>> {
    sqlx::query_as(COUNTERSIGNS)
        .bind(org.0)
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// The last place before this one of which a signature is kept.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn signed_before_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    seq: i64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(SIGNED_BEFORE)
        .bind(org.0)
        .bind(seq)
        .fetch_one(tx)
        .await
}

/// Every key with which action ever said that it signs.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn signers(connection: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(SIGNERS).fetch_all(connection).await
}

/// Remembers the keys with which action signs.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn signers_add_in_tx(tx: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query(SIGNERS_ADD).bind(keys).execute(tx).await?;
    Ok(())
}

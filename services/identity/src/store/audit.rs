//! The audit's chains: [`append`] writes them; here they are read. What is retained is the function's of migration 0009.

use chrono::{DateTime, Utc};
use contract::audit::AuditFilter;
use contract::audit::chain::{Hash, Record};
use domain::OrgId;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

pub mod append;
pub mod head;

// Planned with the values at hand (it is not kept as a prepared statement), so that each filter that is given finds its
// index, and those that are not given cost nothing.
const LIST: &str = "SELECT org_id, seq, prev, hash, id, at, service, actor_kind, actor_id, actor_name, credential, address,
        call, resource_kind, resource_id, resource_name, outcome, reason, before, after, count, trace_id, recorded_at
    FROM identity.audit_events
    WHERE org_id = $1 AND ($2::uuid IS NULL OR actor_id = $2) AND ($3::text IS NULL OR call = $3)
        AND ($4::text IS NULL OR resource_id = $4) AND ($5::text IS NULL OR outcome = $5)
        AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
        AND ($8::timestamptz IS NULL OR (at, seq) < ($8, $9::bigint))
    ORDER BY at DESC, seq DESC LIMIT $10";

const EXPORT: &str = "SELECT org_id, seq, prev, hash, id, at, service, actor_kind, actor_id, actor_name, credential, address,
        call, resource_kind, resource_id, resource_name, outcome, reason, before, after, count, trace_id, recorded_at
    FROM identity.audit_events
    WHERE org_id = $1 AND ($2::uuid IS NULL OR actor_id = $2) AND ($3::text IS NULL OR call = $3)
        AND ($4::text IS NULL OR resource_id = $4) AND ($5::text IS NULL OR outcome = $5)
        AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7) AND seq > $8 AND seq <= $9
    ORDER BY seq LIMIT $10";

const LAST_SEQ: &str = "SELECT coalesce(max(seq), 0) FROM identity.audit_events WHERE org_id = $1";

const RANGE: &str = "SELECT org_id, seq, prev, hash, id, at, service, actor_kind, actor_id, actor_name, credential, address,
        call, resource_kind, resource_id, resource_name, outcome, reason, before, after, count, trace_id, recorded_at
    FROM identity.audit_events WHERE org_id = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq LIMIT $4";

const DROP: &str = "SELECT identity.audit_events_drop($1, $2, $3)";

/// An entry as it is stored.
#[derive(Clone, Debug, FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct EventRow {
    pub org_id: Uuid,
    pub seq: i64,
    pub prev: Vec<u8>,
    pub hash: Vec<u8>,
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub service: String,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub actor_name: Option<String>,
    pub credential: Option<Uuid>,
    pub address: Option<String>,
    pub call: String,
    pub resource_kind: String,
    pub resource_id: Option<String>,
    pub resource_name: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
    pub count: i64,
    pub trace_id: Option<String>,
    pub recorded_at: DateTime<Utc>,
}

impl EventRow {
    /// The hash of what is stored, behind the hash that it says it follows.
    #[must_use]
    pub fn computed(&self) -> Hash {
        Record {
            org: OrgId(self.org_id),
            seq: self.seq,
            prev: &self.prev,
            id: self.id,
            at_millis: self.at.timestamp_millis(),
            service: &self.service,
            actor_kind: &self.actor_kind,
            actor_id: self.actor_id,
            actor_name: self.actor_name.as_deref(),
            credential: self.credential,
            address: self.address.as_deref(),
            call: &self.call,
            resource_kind: &self.resource_kind,
            resource_id: self.resource_id.as_deref(),
            resource_name: self.resource_name.as_deref(),
            outcome: &self.outcome,
            reason: self.reason.as_deref(),
            before: self.before.as_deref(),
            after: self.after.as_deref(),
            count: self.count,
            trace_id: self.trace_id.as_deref(),
        }
        .hash()
    }
}

/// A page, the latest first, of what lies before this place in time.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    filter: &AuditFilter,
    before: Option<(DateTime<Utc>, i64)>,
    limit: i64,
) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as(LIST)
        .bind(org.0)
        .bind(filter.actor)
        .bind(filter.call.as_deref())
        .bind(filter.resource.as_deref())
        .bind(filter.outcome.map(|outcome| outcome.as_str()))
        .bind(filter.from.map(|from| from.utc()))
        .bind(filter.to.map(|to| to.utc()))
        .bind(before.map(|(at, _)| at))
        .bind(before.map(|(_, seq)| seq))
        .bind(limit)
        .persistent(false)
        .fetch_all(tx)
        .await
}

/// A part in the order of the chain, behind `places.0` and up to `places.1`.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn export_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    filter: &AuditFilter,
    places: (i64, i64),
    limit: i64,
) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as(EXPORT)
        .bind(org.0)
        .bind(filter.actor)
        .bind(filter.call.as_deref())
        .bind(filter.resource.as_deref())
        .bind(filter.outcome.map(|outcome| outcome.as_str()))
        .bind(filter.from.map(|from| from.utc()))
        .bind(filter.to.map(|to| to.utc()))
        .bind(places.0)
        .bind(places.1)
        .bind(limit)
        .persistent(false)
        .fetch_all(tx)
        .await
}

/// The last place that there is an entry at; 0 when there is none.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn last_seq_in_tx(tx: &mut PgConnection, org: OrgId) -> sqlx::Result<i64> {
    sqlx::query_scalar(LAST_SEQ).bind(org.0).fetch_one(tx).await
}

/// Entries from one place to another, in their order.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn range_in_tx(
    tx: &mut PgConnection,
    org: OrgId,
    from: i64,
    to: i64,
    limit: i64,
) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as(RANGE)
        .bind(org.0)
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(tx)
        .await
}

/// Removes what is older than so many days from the front of a chain; says how many entries.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn drop_old(
    connection: impl PgExecutor<'_>,
    org: OrgId,
    days: i32,
    portion: i32,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(DROP)
        .bind(org.0)
        .bind(days)
        .bind(portion)
        .fetch_one(connection)
        .await
}

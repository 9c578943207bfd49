//! Appending to chains (group commit). One batch holds entries of several organisations: their heads are locked in the
//! order of their ids, and what is new is put behind each, in the order of the entries' ids.

use std::collections::{BTreeMap, HashMap, HashSet};

use contract::audit::chain::Hash;
use contract::audit::{ActorKind, AuditEntry, AuditVerdict};
use database::{Batch, group_commit::Written};
use domain::OrgId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::audit::EventRow;

const LOCK: &str = "SELECT org_id, seq, hash FROM identity.audit_heads
    WHERE org_id = ANY ($1) ORDER BY org_id FOR UPDATE";

// In one order, too: two that begin the same chains must not wait for each other.
const BEGIN: &str = "INSERT INTO identity.audit_heads (org_id)
    SELECT org_id FROM unnest($1::uuid[]) AS given (org_id) ORDER BY org_id
    ON CONFLICT ON CONSTRAINT audit_heads_pkey DO NOTHING";

const KNOWN: &str = "SELECT event.id FROM unnest($1::uuid[], $2::uuid[]) AS given (org_id, id)
    JOIN identity.audit_events AS event ON event.org_id = given.org_id AND event.id = given.id";

// Names of people and keys as they are now: others know them by id only.
const PEOPLE: &str = "SELECT id, email FROM identity.users WHERE id = ANY ($1)";
const KEYS: &str =
    "SELECT key.id, key.name FROM unnest($1::uuid[], $2::uuid[]) AS given (org_id, id)
    JOIN identity.api_keys AS key ON key.org_id = given.org_id AND key.id = given.id";

const INSERT: &str = "INSERT INTO identity.audit_events (org_id, seq, prev, hash, id, at, service, actor_kind, actor_id,
        actor_name, credential, address, call, resource_kind, resource_id, resource_name, outcome, reason, before, after,
        count, trace_id)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[], $5::uuid[], $6::timestamptz[], $7::text[],
        $8::text[], $9::uuid[], $10::text[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
        $17::text[], $18::text[], $19::text[], $20::text[], $21::bigint[], $22::text[])";

const MOVE: &str = "UPDATE identity.audit_heads AS head SET seq = given.seq, hash = given.hash
    FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS given (org_id, seq, hash) WHERE head.org_id = given.org_id";

/// An entry to be chained, and the service that told of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The service.
    pub service: String,
    /// The entry, tidy.
    pub entry: AuditEntry,
}

/// The group commit of the chains.
#[derive(Debug)]
pub struct Appends;

impl Batch for Appends {
    type Item = Told;
    type Answer = AuditVerdict;
    type Key = (OrgId, Uuid);

    const ONE_STATEMENT: bool = false;

    fn key(told: &Told) -> Self::Key {
        (told.entry.org, told.entry.id)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Told],
    ) -> Written<'a, AuditVerdict> {
        Box::pin(append(connection, items))
    }
}

async fn append(connection: &mut PgConnection, items: &[&Told]) -> sqlx::Result<Vec<AuditVerdict>> {
    let mut ends = lock(connection, items).await?;
    let orgs: Vec<Uuid> = items.iter().map(|told| told.entry.org.0).collect();
    let ids: Vec<Uuid> = items.iter().map(|told| told.entry.id).collect();
    // Under the locks, so what another replica wrote is seen.
    let known: Vec<Uuid> = sqlx::query_scalar(KNOWN)
        .bind(&orgs)
        .bind(&ids)
        .fetch_all(&mut *connection)
        .await?;
    let known: HashSet<Uuid> = known.into_iter().collect();
    let names = names(connection, items).await?;
    let mut rows = Vec::with_capacity(items.len());
    let mut verdicts = Vec::with_capacity(items.len());
    for told in items {
        if known.contains(&told.entry.id) {
            verdicts.push(AuditVerdict::Duplicate);
            continue;
        }
        let end = ends.entry(told.entry.org.0).or_default();
        let mut row = row(told, &names);
        row.seq = end.0 + 1;
        row.prev = end.1.to_vec();
        let hash = row.computed();
        row.hash = hash.to_vec();
        *end = (row.seq, hash);
        rows.push(row);
        verdicts.push(AuditVerdict::Applied);
    }
    if !rows.is_empty() {
        insert(connection, &rows).await?;
        let moved: Vec<Uuid> = rows.iter().map(|row| row.org_id).collect();
        ends.retain(|org, _| moved.contains(org));
        sqlx::query(MOVE)
            .bind(ends.keys().copied().collect::<Vec<_>>())
            .bind(ends.values().map(|(seq, _)| *seq).collect::<Vec<_>>())
            .bind(ends.values().map(|(_, hash)| &hash[..]).collect::<Vec<_>>())
            .execute(connection)
            .await?;
    }
    Ok(verdicts)
}

/// The ends of the chains, locked until the commit; those that have not begun begin.
async fn lock(
    connection: &mut PgConnection,
    items: &[&Told],
) -> sqlx::Result<BTreeMap<Uuid, (i64, Hash)>> {
    let mut orgs: Vec<Uuid> = items.iter().map(|told| told.entry.org.0).collect();
    orgs.sort_unstable();
    orgs.dedup();
    let mut ends = locked(connection, &orgs).await?;
    if ends.len() < orgs.len() {
        sqlx::query(BEGIN)
            .bind(&orgs)
            .execute(&mut *connection)
            .await?;
        ends = locked(connection, &orgs).await?;
    }
    Ok(ends)
}

async fn locked(
    connection: &mut PgConnection,
    orgs: &[Uuid],
) -> sqlx::Result<BTreeMap<Uuid, (i64, Hash)>> {
    let found: Vec<(Uuid, i64, Vec<u8>)> = sqlx::query_as(LOCK)
        .bind(orgs)
        .fetch_all(connection)
        .await?;
    // The table takes no other length.
    let hash = |hash: Vec<u8>| Hash::try_from(hash).unwrap_or_default();
    let ends = found
        .into_iter()
        .map(|(org, seq, end)| (org, (seq, hash(end))));
    Ok(ends.collect())
}

async fn names(
    connection: &mut PgConnection,
    items: &[&Told],
) -> sqlx::Result<HashMap<Uuid, String>> {
    let nameless = |kind: ActorKind| {
        items.iter().filter_map(move |told| {
            let actor = &told.entry.actor;
            let id = actor
                .id
                .filter(|_| actor.kind == kind && actor.name.is_none())?;
            Some((told.entry.org.0, id))
        })
    };
    let people: Vec<Uuid> = nameless(ActorKind::User).map(|(_, id)| id).collect();
    let keys: Vec<(Uuid, Uuid)> = nameless(ActorKind::ApiKey).collect();
    let mut names: Vec<(Uuid, String)> = Vec::new();
    if !people.is_empty() {
        names = sqlx::query_as(PEOPLE)
            .bind(people)
            .fetch_all(&mut *connection)
            .await?;
    }
    if !keys.is_empty() {
        let (orgs, ids): (Vec<Uuid>, Vec<Uuid>) = keys.into_iter().unzip();
        let found: Vec<(Uuid, String)> = sqlx::query_as(KEYS)
            .bind(orgs)
            .bind(ids)
            .fetch_all(connection)
            .await?;
        names.extend(found);
    }
    Ok(names.into_iter().collect())
}

fn row(told: &Told, names: &HashMap<Uuid, String>) -> EventRow {
    let entry = &told.entry;
    let name = || entry.actor.id.and_then(|id| names.get(&id)).cloned();
    EventRow {
        org_id: entry.org.0,
        seq: 0,
        prev: Vec::new(),
        hash: Vec::new(),
        id: entry.id,
        at: entry.at.utc(),
        service: told.service.clone(),
        actor_kind: entry.actor.kind.as_str().to_owned(),
        actor_id: entry.actor.id,
        actor_name: entry.actor.name.clone().or_else(name),
        credential: entry.credential.map(|credential| credential.0),
        address: entry.address.map(|address| address.to_string()),
        call: entry.call.clone(),
        resource_kind: entry.resource.kind.clone(),
        resource_id: entry.resource.id.clone(),
        resource_name: entry.resource.name.clone(),
        outcome: entry.outcome.as_str().to_owned(),
        reason: entry.reason.clone(),
        before: entry.before.as_ref().map(ToString::to_string),
        after: entry.after.as_ref().map(ToString::to_string),
        count: entry.count.into(),
        trace_id: entry.trace_id.clone(),
        recorded_at: entry.at.utc(),
    }
}

async fn insert(connection: &mut PgConnection, rows: &[EventRow]) -> sqlx::Result<()> {
    fn column<'a, T>(rows: &'a [EventRow], of: impl Fn(&'a EventRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    sqlx::query(INSERT)
        .bind(column(rows, |row| row.org_id))
        .bind(column(rows, |row| row.seq))
        .bind(column(rows, |row| row.prev.as_slice()))
        .bind(column(rows, |row| row.hash.as_slice()))
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.at))
        .bind(column(rows, |row| row.service.as_str()))
        .bind(column(rows, |row| row.actor_kind.as_str()))
        .bind(column(rows, |row| row.actor_id))
        .bind(column(rows, |row| row.actor_name.as_deref()))
        .bind(column(rows, |row| row.credential))
        .bind(column(rows, |row| row.address.as_deref()))
        .bind(column(rows, |row| row.call.as_str()))
        .bind(column(rows, |row| row.resource_kind.as_str()))
        .bind(column(rows, |row| row.resource_id.as_deref()))
        .bind(column(rows, |row| row.resource_name.as_deref()))
        .bind(column(rows, |row| row.outcome.as_str()))
        .bind(column(rows, |row| row.reason.as_deref()))
        .bind(column(rows, |row| row.before.as_deref()))
        .bind(column(rows, |row| row.after.as_deref()))
        .bind(column(rows, |row| row.count))
        .bind(column(rows, |row| row.trace_id.as_deref()))
        .execute(connection)
        .await?;
    Ok(())
}

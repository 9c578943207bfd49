//! Who did what. Each mutation writes an entry in its own transaction ([`note_in_tx`], identity's outbox like any other
//! service's); what services hand over is chained here, for each organisation, and can be read, exported and verified
//! ([`verify`]). Nothing of it is ever changed; what is too old is removed from the front ([`App::audit_retention_run`]).

use std::sync::Arc;
use std::time::Duration;

use contract::audit::chain::Hash;
use contract::audit::{
    APPEND_MAX, Actor, AuditAppend, AuditAppended, AuditCountersign, AuditEntry, AuditEvent,
    AuditExport, AuditExported, AuditHeads, AuditHeadsPage, AuditList, AuditPage, AuditRefused,
    AuditVerdict, EXPORT_MAX, HEADS_MAX, Head, LIST_MAX, OPERATION_MAX_BYTES, REFUSED_MAX,
    Resource,
};
use contract::identity::Done;
use contract::{Author, Grant, Problem};
use database::{AuditRow, DatabaseError, NotHanded};
use domain::access::AUDIT_READ;
use domain::{OrgId, Timestamp};
use futures::future::join_all;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::IdentityError;
use crate::store::audit::append::Told;
use crate::store::audit::{self, EventRow, head};

pub mod verify;

/// A page ends early when its entries reach this many bytes.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// How many places of a chain one part of an export looks at.
const EXPORT_SPAN: i64 = 50_000;
/// The longest text of a filter, in characters: no entry has a longer one.
const FILTER_MAX_CHARS: usize = 500;
/// How often there is a look for what is too old.
const RETENTION_EVERY: Duration = Duration::from_secs(3_600);
/// How many entries are removed at once, and how many organisations are looked up at once.
const RETENTION_PORTION: i32 = 5_000;
const RETENTION_ORGS: i64 = 500;
/// After so many organisations whose entries could not be removed it is the database that is away.
const RETENTION_FAILURES_MAX: u32 = 8;

/// Writes entries into identity's outbox, in the transaction of what they tell of.
///
/// # Errors
/// [`DatabaseError`].
pub async fn note_all_in_tx(
    tx: &mut PgConnection,
    entries: Vec<AuditEntry>,
) -> Result<(), DatabaseError> {
    AuditRow::insert_all_in_tx(&owner::audit_rows(entries)?, crate::SCHEMA, tx).await
}

/// Writes one entry, likewise.
///
/// # Errors
/// [`DatabaseError`].
pub async fn note_in_tx(tx: &mut PgConnection, entry: AuditEntry) -> Result<(), DatabaseError> {
    note_all_in_tx(tx, vec![entry]).await
}

impl App {
    /// Hands identity's own entries over, as every service does, without the way over the bus.
    ///
    /// # Errors
    /// [`NotHanded`].
    pub async fn audit_hand(&self, rows: Vec<AuditRow>) -> Result<Vec<Option<String>>, NotHanded> {
        let texts = rows.iter().map(|row| row.entry.as_str());
        let append = AuditAppend::read(texts).map_err(|reason| NotHanded {
            refused: true,
            reason,
        })?;
        match self.audit_append(crate::SCHEMA, append).await {
            Ok(appended) => Ok(appended
                .items
                .into_iter()
                .map(AuditVerdict::refusal)
                .collect()),
            Err(error) => {
                let problem = Problem::from(error);
                Err(NotHanded {
                    refused: problem.is_lasting(),
                    reason: problem.to_string(),
                })
            }
        }
    }

    /// Chains what a service tells of, and answers after the commit.
    ///
    /// # Errors
    /// INVALID for too many at once; UNAVAILABLE: what was committed is known as DUPLICATE the next time.
    pub async fn audit_append(
        &self,
        service: &str,
        request: AuditAppend,
    ) -> Result<AuditAppended, IdentityError> {
        if request.entries.len() > APPEND_MAX {
            return Err(Problem::invalid("entries", format!("takes at most {APPEND_MAX}")).into());
        }
        let submitted = request.entries.into_iter().map(|entry| {
            self.audit.submit(Told {
                service: service.to_owned(),
                entry: entry.tidy(),
            })
        });
        let mut items = Vec::new();
        for ended in join_all(submitted).await {
            items.push(match ended {
                Ok(verdict) => verdict,
                Err(error @ (DatabaseError::Constraint(_) | DatabaseError::Data(_))) => {
                    tracing::error!(%error, service, "an audit entry is not what the database takes");
                    AuditVerdict::Refused
                }
                Err(error) => return Err(error.into()),
            });
        }
        Ok(AuditAppended { items })
    }

    /// Notes what the gateway refused a caller before it asked any owner, folded like every refused attempt. Whose it was
    /// the grant says, and nothing that the gateway tells.
    ///
    /// # Errors
    /// INVALID naming `operation` or `count`.
    pub fn audit_refused(
        &self,
        author: &Author,
        request: &AuditRefused,
    ) -> Result<Done, IdentityError> {
        let operation = request.operation.as_str();
        let plain = operation
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !plain || !(1..=OPERATION_MAX_BYTES).contains(&operation.len()) {
            let text = format!("must be 1 to {OPERATION_MAX_BYTES} bytes of printable ASCII");
            return Err(Problem::invalid("operation", text).into());
        }
        if !(1..=REFUSED_MAX).contains(&request.count) {
            let text = format!("must be from 1 to {REFUSED_MAX}");
            return Err(Problem::invalid("count", text).into());
        }
        let entry = AuditEntry {
            count: request.count,
            ..author.did("http.request", Resource::of("operation", operation))
        };
        self.denials.note(entry.denied(request.reason.words()));
        Ok(Done {})
    }

    /// A page of entries, the latest first.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming `limit`, `cursor` or a filter; UNAVAILABLE.
    pub async fn audit_list(
        &self,
        grant: &Grant,
        request: &AuditList,
    ) -> Result<AuditPage, IdentityError> {
        grant.require(AUDIT_READ)?;
        let limit = limited(request.limit, LIST_MAX)?;
        let before = match &request.cursor {
            None => None,
            Some(cursor) => Some(
                place(cursor)
                    .ok_or_else(|| Problem::invalid("cursor", "is not one that this list gave"))?,
            ),
        };
        let filter = checked(&request.filter)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows = audit::list_in_tx(&mut tx, grant.org, filter, before, limit + 1).await?;
        drop(tx);
        let (items, more) = page(rows, limit)?;
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| format!("{}-{}", last.entry.at.millis(), last.seq));
        Ok(AuditPage { items, next_cursor })
    }

    /// A part of an export, in the order of the chain.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming `limit` or a filter; UNAVAILABLE.
    pub async fn audit_export(
        &self,
        grant: &Grant,
        request: &AuditExport,
    ) -> Result<AuditExported, IdentityError> {
        grant.require(AUDIT_READ)?;
        let limit = limited(request.limit, EXPORT_MAX)?;
        let filter = checked(&request.filter)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        // What is added meanwhile is not part of it, so that it ends; and a filter that finds little reads a bounded part.
        let last = audit::last_seq_in_tx(&mut tx, grant.org).await?;
        let to = last.min(request.after.saturating_add(EXPORT_SPAN));
        let places = (request.after, to);
        let rows = audit::export_in_tx(&mut tx, grant.org, filter, places, limit + 1).await?;
        drop(tx);
        let (items, more) = page(rows, limit)?;
        let next = match items.last() {
            Some(item) if more => Some(item.seq),
            _ => (to < last).then_some(to),
        };
        Ok(AuditExported { items, next })
    }

    /// Ends of chains that action has not signed yet.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn audit_heads(&self, request: &AuditHeads) -> Result<AuditHeadsPage, IdentityError> {
        let limit = i64::from(request.limit.clamp(1, HEADS_MAX));
        let mut rows = head::unsigned(self.pools.system(), request.after, limit + 1).await?;
        let more = rows.len() as i64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let items = rows.into_iter().map(|row| Head {
            org: OrgId(row.org_id),
            seq: row.seq,
            hash: hash(row.hash),
        });
        Ok(AuditHeadsPage {
            items: items.collect(),
            more,
        })
    }

    /// Keeps what action signed.
    ///
    /// # Errors
    /// INVALID for a signature that is not action's; UNAVAILABLE.
    pub async fn audit_countersign(
        &self,
        request: &AuditCountersign,
    ) -> Result<Done, IdentityError> {
        if request.items.len() > HEADS_MAX as usize {
            return Err(Problem::invalid("items", format!("takes at most {HEADS_MAX}")).into());
        }
        let keys = head::signers(self.pools.system()).await?;
        for (index, given) in request.items.iter().enumerate() {
            given
                .verify(&keys)
                .map_err(|error| Problem::invalid(format!("items[{index}]"), error.to_string()))?;
        }
        let mut tx = self.pools.system_tx().await?;
        head::countersign_in_tx(&mut tx, &request.items).await?;
        tx.commit().await?;
        Ok(Done {})
    }

    /// Removes entries that are too old, now and then, for ever. Replicas may do so at the same time: the function takes
    /// the chain's lock.
    pub async fn audit_retention_run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.audit_retain().await {
                tracing::debug!(%error, "old audit entries stay for another hour");
            }
            tokio::time::sleep(RETENTION_EVERY).await;
        }
    }

    /// Removes the entries that are too old now. An organisation whose chain is busy keeps its own until the next time, and
    /// holds up no other.
    ///
    /// # Errors
    /// [`IdentityError::Database`].
    pub async fn audit_retain(&self) -> Result<(), IdentityError> {
        let (mut after, mut failures) = (None, 0);
        loop {
            let orgs = head::organizations(self.pools.system(), after, RETENTION_ORGS).await?;
            for org in &orgs {
                match self.audit_retain_of(*org).await {
                    Ok(0) => {}
                    Ok(dropped) => {
                        tracing::info!(%org, dropped, "audit entries of the past were removed");
                    }
                    Err(error) if failures == RETENTION_FAILURES_MAX => return Err(error),
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%org, %error, "old audit entries stay for another hour");
                    }
                }
            }
            after = orgs.last().copied();
            if (orgs.len() as i64) < RETENTION_ORGS {
                return Ok(());
            }
        }
    }

    /// Removes those of one organisation, in portions, each with the entry that tells of it; says how many.
    async fn audit_retain_of(&self, org: OrgId) -> Result<i64, IdentityError> {
        let days = self.audit_retention_days;
        let mut dropped = 0;
        loop {
            let mut tx = self.pools.system_tx().await?;
            let portion = audit::drop_old(&mut *tx, org, days, RETENTION_PORTION).await?;
            if portion == 0 {
                return Ok(dropped);
            }
            let actor = Actor::service(crate::SCHEMA);
            let resource = Resource::kind("audit-event");
            let entry = AuditEntry::new(org, actor, "audit.retain", resource)
                .count(usize::try_from(portion).unwrap_or(usize::MAX))
                .because(format!("they were recorded more than {days} days ago"));
            note_in_tx(&mut tx, entry).await?;
            tx.commit().await?;
            self.audit_relay.wake();
            dropped += portion;
        }
    }
}

fn limited(limit: u32, most: u32) -> Result<i64, Problem> {
    if (1..=most).contains(&limit) {
        return Ok(limit.into());
    }
    Err(Problem::invalid(
        "limit",
        format!("must be from 1 to {most}"),
    ))
}

fn checked(
    filter: &contract::audit::AuditFilter,
) -> Result<&contract::audit::AuditFilter, Problem> {
    for (path, text) in [("call", &filter.call), ("resource", &filter.resource)] {
        let Some(text) = text else { continue };
        if text.contains('\0') || text.chars().count() > FILTER_MAX_CHARS {
            return Err(Problem::invalid(path, "is not what any entry has"));
        }
    }
    Ok(filter)
}

/// The place of a cursor: a time and a place in the chain.
fn place(cursor: &str) -> Option<(chrono::DateTime<chrono::Utc>, i64)> {
    let (millis, seq) = cursor.rsplit_once('-')?;
    let at = Timestamp::from_millis(millis.parse().ok()?)?;
    Some((at.utc(), seq.parse().ok()?))
}

/// The entries of a page, as many as it may have, and whether there are more.
fn page(rows: Vec<EventRow>, limit: i64) -> Result<(Vec<AuditEvent>, bool), IdentityError> {
    let found = rows.len();
    let mut items = Vec::with_capacity(found);
    let mut bytes = 0;
    for row in rows.into_iter().take(usize::try_from(limit).unwrap_or(0)) {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        bytes += 1_024 + length(&row.before) + length(&row.after) + length(&row.reason);
        if bytes > PAGE_MAX_BYTES && !items.is_empty() {
            break;
        }
        items.push(event(row)?);
    }
    let more = items.len() < found;
    Ok((items, more))
}

/// The table takes no other length.
fn hash(bytes: Vec<u8>) -> Hash {
    Hash::try_from(bytes).unwrap_or_default()
}

/// An entry as it is shown. One that somebody changed by hand is still shown, as far as it can be read.
fn event(row: EventRow) -> Result<AuditEvent, IdentityError> {
    let json = |text: Option<String>| {
        text.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    };
    Ok(AuditEvent {
        seq: row.seq,
        service: row.service,
        entry: AuditEntry {
            id: row.id,
            org: OrgId(row.org_id),
            at: row.at.into(),
            actor: Actor {
                kind: row.actor_kind.parse().map_err(IdentityError::Internal)?,
                id: row.actor_id,
                name: row.actor_name,
            },
            credential: row.credential.map(Into::into),
            address: row.address.and_then(|address| address.parse().ok()),
            call: row.call,
            resource: Resource {
                kind: row.resource_kind,
                id: row.resource_id,
                name: row.resource_name,
            },
            outcome: row.outcome.parse().map_err(IdentityError::Internal)?,
            reason: row.reason,
            before: json(row.before),
            after: json(row.after),
            count: u32::try_from(row.count).unwrap_or(u32::MAX),
            trace_id: row.trace_id,
        },
        hash: hash(row.hash),
    })
}

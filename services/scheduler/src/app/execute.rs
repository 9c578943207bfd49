//! Asking for executions, one or many: one transaction makes all of them, or none; then the doorbell rings for what is due.
//! [`item`] is one of them, [`settle`] what the database knows of it, [`record`] what is kept beside an `Idempotency-Key`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use contract::audit::{ActorKind, Resource};
use contract::execution::{Execution, ExecutionBatch, ExecutionBatched, ExecutionSummary};
use contract::job::JobExecute;
use contract::work::{Lane, Made};
use contract::{Author, Problem};
use database::DatabaseError;
use domain::access::JOBS_EXECUTE;
use domain::execution::BATCH_MAX;
use domain::{ExecutionId, OrgId};
use owner::idempotency::Key;
use serde_json::{Value, json};
use uuid::Uuid;

use self::item::{Item, Place};
use self::record::{duplicates, read_record, recorded};
use self::settle::{configs_in_tx, jobs_in_tx, keys_in_tx, limits_in_tx};
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::enqueue::{self, Asker, Enqueued, JobHead};
use crate::store::execution::{self, SummaryRow};
use crate::store::idempotency::KEYS;

mod item;
mod record;
mod settle;

/// How often a transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;
/// The most jobs that an entry of the audit names.
const JOBS_TOLD_MAX: usize = 20;

/// Executions that somebody asks for.
struct Asked<'a> {
    author: &'a Author,
    call: &'static str,
    key: Option<&'a Key>,
    items: &'a [Item],
}

/// How the transaction ended.
enum Committed {
    /// The execution of each item, and those that are new.
    Made(Vec<Uuid>, Vec<Enqueued>),
    /// What the key had made before.
    Before(Vec<Uuid>),
}

impl App {
    /// Asks for an execution of a job. While one with the same deduplication key waits or runs, that one is the answer.
    ///
    /// # Errors
    /// INVALID or TOO_LARGE naming the field; FORBIDDEN without `jobs:execute`; NOT_FOUND; CONFLICT when the job is disabled or its pool
    /// is no more, and for a key used for another body; UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn job_execute(
        &self,
        author: &Author,
        request: JobExecute,
    ) -> Result<Execution, SchedulerError> {
        author.require(JOBS_EXECUTE)?;
        let call = "job.execute";
        let key = Key::of(&KEYS, call, request.idempotency_key.as_deref(), &request)?;
        let item = Item::of(Place(None), request.job_id, request.order)?;
        let asked = Asked {
            author,
            call,
            key: key.as_ref(),
            items: std::slice::from_ref(&item),
        };
        let (ids, made, before) = match self.enqueue(&asked).await? {
            Committed::Made(ids, made) => (ids, made, false),
            Committed::Before(record) => (record, Vec::new(), true),
        };
        let (ids, duplicates) = if before {
            read_record(&ids, 1)
        } else {
            let duplicates = duplicates(&ids, asked.items);
            (ids, duplicates)
        };
        let row = match made.into_iter().next() {
            Some(made) => made.row,
            None => {
                let id = ids.first().copied().unwrap_or_default();
                let mut tx = self.pools.tenant_tx(author.org).await?;
                let row = execution::execution_get_in_tx(&mut tx, author.org, id.into()).await?;
                row.ok_or_else(|| Problem::not_found("execution"))?
            }
        };
        Ok(Execution {
            duplicate: duplicates.contains(&0),
            ..row.view()?
        })
    }

    /// Asks for many executions: for all of them, or for none.
    ///
    /// # Errors
    /// As [`App::job_execute`], with the fields' paths in `items`.
    pub async fn execution_batch(
        &self,
        author: &Author,
        request: ExecutionBatch,
    ) -> Result<ExecutionBatched, SchedulerError> {
        author.require(JOBS_EXECUTE)?;
        let count = request.items.len();
        if !(1..=BATCH_MAX).contains(&count) {
            let message = format!("has {count} items; 1 to {BATCH_MAX}");
            return Err(Problem::invalid("items", message).into());
        }
        let call = "execution.batch";
        let key = Key::of(&KEYS, call, request.idempotency_key.as_deref(), &request)?;
        let mut items = Vec::with_capacity(count);
        for (index, item) in request.items.into_iter().enumerate() {
            items.push(Item::of(Place(Some(index)), item.job_id, item.order)?);
        }
        let asked = Asked {
            author,
            call,
            key: key.as_ref(),
            items: &items,
        };
        let items = match self.enqueue(&asked).await? {
            Committed::Made(ids, made) => {
                let duplicates = duplicates(&ids, &items);
                self.summaries(author.org, &ids, &duplicates, made).await?
            }
            Committed::Before(record) => {
                let (ids, duplicates) = read_record(&record, count);
                self.summaries(author.org, &ids, &duplicates, Vec::new())
                    .await?
            }
        };
        Ok(ExecutionBatched { items })
    }

    /// What became of each item, in their order: of what is new as it was made, of the others as they are now.
    async fn summaries(
        &self,
        org: OrgId,
        ids: &[Uuid],
        duplicates: &HashSet<usize>,
        made: Vec<Enqueued>,
    ) -> Result<Vec<ExecutionSummary>, SchedulerError> {
        let mut rows: HashMap<Uuid, SummaryRow> = made
            .into_iter()
            .map(|made| (made.row.id, summary(made)))
            .collect();
        let missing: Vec<Uuid> = ids
            .iter()
            .filter(|id| !rows.contains_key(*id))
            .copied()
            .collect();
        if !missing.is_empty() {
            let mut tx = self.pools.tenant_tx(org).await?;
            let found = execution::summaries_get_in_tx(&mut tx, org, &missing).await?;
            rows.extend(found.into_iter().map(|row| (row.id, row)));
        }
        ids.iter()
            .enumerate()
            .map(|(index, id)| {
                let row = rows
                    .get(id)
                    .ok_or_else(|| Problem::not_found("execution"))?;
                row.view(duplicates.contains(&index))
            })
            .collect()
    }

    async fn enqueue(&self, asked: &Asked<'_>) -> Result<Committed, SchedulerError> {
        let mut tries = 1;
        let committed = loop {
            match self.enqueue_try(asked).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "executions collided and are asked for again");
                    tries += 1;
                }
                ended => break ended?,
            }
        };
        if let Committed::Made(_, made) = &committed {
            self.audit_relay.wake();
            self.ring_for(asked.author.org, made).await;
        }
        Ok(committed)
    }

    async fn enqueue_try(&self, asked: &Asked<'_>) -> Result<Committed, SchedulerError> {
        let (author, items) = (asked.author, asked.items);
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = asked.key
            && let Some(before) = key.made_in_tx(&mut tx, org).await?
        {
            return Ok(Committed::Before(before));
        }
        let jobs = jobs_in_tx(&mut tx, org, items, &self.worker_pools).await?;
        let pinned = configs_in_tx(&mut tx, author, items, &jobs).await?;
        let ids = keys_in_tx(&mut tx, org, items).await?;
        if let Some(key) = asked.key {
            let record = recorded(&ids, &duplicates(&ids, items));
            // Whoever came with the same key at the same time and was first: this transaction is forgotten.
            if let Some(before) = key.take_in_tx(&mut tx, org, &record).await? {
                return Ok(Committed::Before(before));
            }
        }
        let mut new = Vec::with_capacity(items.len());
        for (index, (item, id)) in items.iter().zip(&ids).enumerate() {
            if let Some(job) = jobs.get(&item.job.0).filter(|_| item.id.0 == *id) {
                new.push(item.new_execution(job, pinned.get(&index)));
            }
        }
        limits_in_tx(&mut tx, org, &new, &jobs).await?;
        let made = if new.is_empty() {
            Vec::new()
        } else {
            enqueue::executions_insert_in_tx(&mut tx, org, &new, &asker(author)).await?
        };
        if !made.is_empty() {
            let entry = author.did(asked.call, resource(&made, &jobs));
            let entry = entry.after(told(items, &made)).count(made.len());
            audit::note_in_tx(&mut tx, entry).await?;
        }
        tx.commit().await?;
        Ok(Committed::Made(ids, made))
    }

    /// Tells the dispatchers of each pool what waits now. Lost, they find it by themselves.
    async fn ring_for(&self, org: OrgId, made: &[Enqueued]) {
        let mut pools: BTreeMap<&str, Vec<&Enqueued>> = BTreeMap::new();
        for made in made.iter().filter(|made| made.due) {
            pools.entry(&made.pool).or_default().push(made);
        }
        let lane = |made: &Enqueued| Lane {
            org,
            job: made.row.job_id.into(),
            key: made.row.key.clone(),
        };
        for (pool, made) in pools {
            // Of several that come at one moment the most urgent goes first; who is next, a look shows.
            let first = made
                .iter()
                .min_by_key(|made| (Reverse(made.row.priority), made.row.id));
            if let Some(first) = first {
                let id = ExecutionId(first.row.id);
                let lane = lane(first);
                self.bell.made(pool, vec![Made { lane, id }]).await;
            }
            if made.len() > 1 {
                let lanes: BTreeSet<Lane> = made.into_iter().map(lane).collect();
                self.bell.waits(pool, lanes).await;
            }
        }
    }
}

/// On whose behalf an execution is that this author asks for, now or again.
pub(super) fn asker(author: &Author) -> Asker {
    Asker {
        kind: ActorKind::from(author.kind).as_str(),
        id: author.sub,
        credential: author.credential.0,
        traceparent: bus::trace::current(),
    }
}

fn summary(made: Enqueued) -> SummaryRow {
    SummaryRow {
        id: made.row.id,
        job_id: made.row.job_id,
        status: made.row.status,
        scheduled_for: made.row.scheduled_for,
        created_at: made.row.created_at,
    }
}

/// What the audit says it was done to: an execution, or many.
fn resource(made: &[Enqueued], jobs: &HashMap<Uuid, JobHead>) -> Resource {
    match made {
        [one] => {
            let resource = Resource::of("execution", one.row.id);
            match jobs.get(&one.row.job_id) {
                Some(job) => resource.named(&job.name),
                None => resource,
            }
        }
        _ => Resource::kind("execution"),
    }
}

/// What the audit is told of what was asked for. Not what it is given: that may be nobody's business.
fn told(items: &[Item], made: &[Enqueued]) -> Value {
    match (items, made) {
        ([item], [one]) => json!({
            "jobId": one.row.job_id,
            "priority": one.row.priority,
            "runAt": item.order.run_at,
            "deduplicationKey": item.order.deduplication_key,
            "concurrencyKey": item.order.concurrency_key,
            "hasConfig": item.replaced.is_some(),
        }),
        _ => {
            let jobs: BTreeSet<Uuid> = made.iter().map(|made| made.row.job_id).collect();
            let count = jobs.len();
            let named: Vec<Uuid> = jobs.into_iter().take(JOBS_TOLD_MAX).collect();
            json!({ "items": items.len(), "made": made.len(), "jobs": count, "jobIds": named })
        }
    }
}

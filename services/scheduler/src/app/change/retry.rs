//! Beginning again what FAILED, ran into TIMEOUT or was CANCELLED: on behalf of whoever begins it again, as if it were asked for
//! anew.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contract::audit::Resource;
use contract::execution::{Execution, ExecutionFilter, ExecutionRetryMany, ExecutionsChanged};
use contract::work::Lane;
use contract::{Author, Problem};
use database::{DatabaseError, Tx};
use domain::access::JOBS_EXECUTE;
use domain::execution::{BATCH_MAX, ExecutionStatus};
use domain::{ExecutionId, OrgId};
use serde_json::json;
use uuid::Uuid;

use super::{PORTION, TRIES, check_many, conflict};
use crate::app::execute::asker;
use crate::app::execution::wanted;
use crate::app::job::refusal;
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::change::{self, Again, Ended};
use crate::store::enqueue::{self, Deduplication};
use crate::store::{execution, limits};

impl App {
    /// Begins an execution again that FAILED, ran into TIMEOUT or was CANCELLED: it waits, due now, with all its retries before it,
    /// and is on behalf of this author from now on.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:execute`; NOT_FOUND; CONFLICT when it completed or has not ended, when its job is gone or disabled or
    /// in a pool that is no more, and when another has its deduplication key; UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn execution_retry(
        &self,
        author: &Author,
        id: ExecutionId,
    ) -> Result<Execution, SchedulerError> {
        author.require(JOBS_EXECUTE)?;
        let org = author.org;
        let mut tries = 1;
        let again = loop {
            match self.retry_try(author, id).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tries += 1;
                }
                ended => break ended?,
            }
        };
        self.audit_relay.wake();
        self.ring_again(org, std::slice::from_ref(&again)).await;
        self.show_status(org, id.0, "PENDING", false).await;
        let mut tx = self.pools.tenant_tx(org).await?;
        let row = execution::execution_get_in_tx(&mut tx, org, id).await?;
        row.ok_or_else(|| Problem::not_found("execution"))?.view()
    }

    async fn retry_try(&self, author: &Author, id: ExecutionId) -> Result<Again, SchedulerError> {
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let Some(ended) = change::ended_get_in_tx(&mut tx, org, id).await? else {
            let open = execution::execution_get_in_tx(&mut tx, org, id).await?;
            let open = open.ok_or_else(|| Problem::not_found("execution"))?;
            let text = format!("the execution has not ended: {}", open.status);
            return Err(conflict(text));
        };
        if ended.status == "COMPLETED" {
            return Err(conflict("the execution has completed"));
        }
        let status = ended.status.clone();
        let retried = retry_in_tx(&mut tx, author, vec![ended], &self.worker_pools).await?;
        let Some(again) = retried.again.into_iter().next() else {
            return Err(match retried.refused {
                Some(why) => conflict(why),
                None => conflict("the execution is begun again by somebody else just now"),
            });
        };
        let entry = author
            .did("execution.retry", Resource::of("execution", id))
            .before(json!({ "status": status }))
            .after(json!({ "status": "PENDING" }));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        Ok(again)
    }

    /// Begins the oldest executions again that a filter means and that can: all of them, or none. Those whose job is gone or
    /// disabled or in a pool that is no more, or whose deduplication key another has, stay as they are.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:execute`; INVALID naming the field; UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn execution_retry_many(
        &self,
        author: &Author,
        request: &ExecutionRetryMany,
    ) -> Result<ExecutionsChanged, SchedulerError> {
        use ExecutionStatus::{Cancelled, Failed, Timeout};
        author.require(JOBS_EXECUTE)?;
        let filter = &request.filter;
        let others = "`status`, `deadLetter`, `from` or `to`";
        check_many(filter, &[Failed, Timeout, Cancelled], others)?;
        let mut tries = 1;
        let (again, more) = loop {
            match self.retry_many_try(author, filter).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "beginning many again collided and is run again");
                    tries += 1;
                }
                ended => break ended?,
            }
        };
        self.audit_relay.wake();
        self.ring_again(author.org, &again).await;
        for again in &again {
            self.show_status(author.org, again.id, "PENDING", false)
                .await;
        }
        Ok(ExecutionsChanged {
            count: again.len() as u64,
            more,
        })
    }

    async fn retry_many_try(
        &self,
        author: &Author,
        filter: &ExecutionFilter,
    ) -> Result<(Vec<Again>, bool), SchedulerError> {
        let org = author.org;
        let mut wanted = wanted(filter)?;
        wanted.ended.retain(|status| *status != "COMPLETED");
        let mut tx = self.pools.tenant_tx(org).await?;
        let mut ended = change::ended_find_in_tx(
            &mut tx,
            org,
            &wanted,
            &self.worker_pools,
            BATCH_MAX as i64 + 1,
        )
        .await?;
        let more = ended.len() > BATCH_MAX;
        ended.truncate(BATCH_MAX);
        let retried = retry_in_tx(&mut tx, author, ended, &self.worker_pools).await?;
        let count = retried.again.len();
        if count > 0 {
            let entry = author
                .did("execution.retry-many", Resource::kind("execution"))
                .after(json!({ "filter": filter }));
            audit::note_in_tx(&mut tx, entry.count(count)).await?;
        }
        tx.commit().await?;
        // Without any progress there is nothing to ask again for.
        Ok((retried.again, more && count > 0))
    }

    /// Tells the dispatchers of each pool what waits again. Lost, they find it by themselves.
    async fn ring_again(&self, org: OrgId, again: &[Again]) {
        let mut pools: BTreeMap<&str, BTreeSet<Lane>> = BTreeMap::new();
        for again in again {
            pools.entry(&again.pool).or_default().insert(Lane {
                org,
                job: again.job_id.into(),
                key: again.key.clone(),
            });
        }
        for (pool, lanes) in pools {
            self.bell.waits(pool, lanes).await;
        }
    }
}

/// What became of executions that were to begin again.
struct Retried {
    again: Vec<Again>,
    /// Why not, of the last that was refused.
    refused: Option<String>,
}

/// Begins executions again, as far as their jobs are there, enabled and in one of the `pools`, and their deduplication keys are
/// free.
async fn retry_in_tx(
    tx: &mut Tx,
    author: &Author,
    mut ended: Vec<Ended>,
    pools: &[String],
) -> Result<Retried, SchedulerError> {
    let org = author.org;
    let mut refused = None;
    let jobs: BTreeSet<Uuid> = ended.iter().map(|ended| ended.job_id).collect();
    let jobs: Vec<Uuid> = jobs.into_iter().collect();
    let has_keys = ended.iter().any(|ended| !ended.key.is_empty());
    let jobs = enqueue::jobs_share_in_tx(tx, org, &jobs, has_keys).await?;
    ended.retain(|ended| {
        let job = jobs.binary_search_by_key(&ended.job_id, |job| job.id);
        let why = match job.ok().and_then(|place| jobs.get(place)) {
            Some(job) => refusal(job, pools),
            None => Some("the execution's job is gone".to_owned()),
        };
        let may = why.is_none();
        refused = why.or(refused.take());
        may
    });
    let taken: Vec<Deduplication> = ended.iter().filter_map(deduplication).collect();
    if !taken.is_empty() {
        let got = enqueue::keys_take_in_tx(tx, org, &taken).await?;
        let got: HashSet<Uuid> = got.into_iter().collect();
        ended.retain(|ended| {
            let free = ended.deduplication_key.is_none() || got.contains(&ended.id);
            if !free {
                let why = "another execution of the job waits or runs with its deduplication key";
                refused = Some(why.to_owned());
            }
            free
        });
    }
    for job in jobs.iter().filter(|job| job.key_concurrency.is_some()) {
        let of_job = ended.iter().filter(|ended| ended.job_id == job.id);
        let keys: BTreeSet<&String> = of_job
            .map(|ended| &ended.key)
            .filter(|key| !key.is_empty())
            .collect();
        let keys: Vec<String> = keys.into_iter().cloned().collect();
        if !keys.is_empty() {
            limits::limits_key_in_tx(tx, org, job.id.into(), &keys).await?;
        }
    }
    let there: Vec<Uuid> = jobs
        .iter()
        .filter(|job| refusal(job, pools).is_none())
        .map(|job| job.id)
        .collect();
    let asker = asker(author);
    let mut again = Vec::with_capacity(ended.len());
    for portion in ended.chunks(PORTION) {
        let ids: Vec<Uuid> = portion.iter().map(|ended| ended.id).collect();
        again.extend(change::ended_retry_in_tx(tx, org, &ids, &there, &asker).await?);
    }
    // Somebody else was first: the key that was taken for it here is nobody's.
    let back: HashSet<Uuid> = again.iter().map(|again: &Again| again.id).collect();
    let in_vain: Vec<Deduplication> = ended
        .iter()
        .filter(|ended| !back.contains(&ended.id))
        .filter_map(deduplication)
        .collect();
    if !in_vain.is_empty() {
        enqueue::keys_free_in_tx(tx, org, &in_vain).await?;
    }
    Ok(Retried { again, refused })
}

fn deduplication(ended: &Ended) -> Option<Deduplication> {
    Some(Deduplication {
        job_id: ended.job_id,
        key: ended.deduplication_key.clone()?,
        execution_id: ended.id,
    })
}

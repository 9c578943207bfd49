//! Cancelling executions, and beginning them again. What waits ends here; what runs is asked, and its worker's word counts. No
//! event tells of a beginning, the first or another: events are of ends and of configuration.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contract::audit::Resource;
use contract::execution::{
    Execution, ExecutionCancelMany, ExecutionFilter, ExecutionRetryMany, ExecutionsChanged,
};
use contract::work::Lane;
use contract::{Author, Problem, ProblemKind};
use database::{DatabaseError, Tx};
use domain::access::JOBS_EXECUTE;
use domain::execution::{BATCH_MAX, ExecutionStatus};
use domain::{ExecutionId, OrgId};
use serde_json::json;
use uuid::Uuid;

use crate::app::execution::wanted;
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::change::{self, Again, Ended};
use crate::store::enqueue::{self, Deduplication};
use crate::store::{execution, limits};

/// How many executions one statement changes.
const PORTION: usize = 1_000;
/// How often a transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;

/// What many executions became.
#[derive(Debug, Default)]
struct Changed {
    cancelled: Vec<Uuid>,
    stopped: Vec<Uuid>,
    more: bool,
}

impl App {
    /// Cancels an execution that waits; asks one that runs to stop. Asked again, it is the same.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:execute`; NOT_FOUND; CONFLICT when it has ended otherwise; UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn execution_cancel(
        &self,
        author: &Author,
        id: ExecutionId,
    ) -> Result<Execution, SchedulerError> {
        author.require(JOBS_EXECUTE)?;
        let mut tries = 1;
        loop {
            match self.cancel_try(author, id).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {}
                // It waits or runs, and moved from one to the other while we looked.
                Ok(None) if tries < TRIES => {}
                Ok(None) => {
                    let text = "the execution changes too often to be cancelled now; try again";
                    return Err(Problem::unavailable(text).into());
                }
                Ok(Some(execution)) => return Ok(execution),
                Err(error) => return Err(self.heed(error)),
            }
            tries += 1;
        }
    }

    /// Nothing when it was neither found waiting nor running, and has not ended.
    async fn cancel_try(
        &self,
        author: &Author,
        id: ExecutionId,
    ) -> Result<Option<Execution>, SchedulerError> {
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let before = execution::execution_get_in_tx(&mut tx, org, id).await?;
        let before = before.ok_or_else(|| Problem::not_found("execution"))?;
        let cancelled = change::waiting_cancel_in_tx(&mut tx, org, &[id.0]).await?;
        let stopped = if cancelled.is_empty() {
            change::running_stop_in_tx(&mut tx, org, &[id.0]).await?
        } else {
            Vec::new()
        };
        let after = execution::execution_get_in_tx(&mut tx, org, id).await?;
        let after = after.ok_or_else(|| Problem::not_found("execution"))?;
        let (status, asked) = (after.status.clone(), after.cancel_requested);
        if cancelled.is_empty() && stopped.is_empty() {
            return match status.as_str() {
                "CANCELLED" => Ok(Some(after.view()?)),
                "RUNNING" if asked => Ok(Some(after.view()?)),
                "PENDING" | "RUNNING" => Ok(None),
                _ => Err(conflict(format!("the execution has ended: {status}"))),
            };
        }
        let entry = author
            .did("execution.cancel", Resource::of("execution", id))
            .before(json!({ "status": before.status, "cancelRequested": before.cancel_requested }))
            .after(json!({ "status": status, "cancelRequested": asked }));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        self.show_status(org, id.0, &status, asked).await;
        Ok(Some(after.view()?))
    }

    /// Cancels the oldest executions that a filter means, as [`App::execution_cancel`] does: all of them, or none.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:execute`; INVALID naming the field; UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn execution_cancel_many(
        &self,
        author: &Author,
        request: &ExecutionCancelMany,
    ) -> Result<ExecutionsChanged, SchedulerError> {
        use ExecutionStatus::{Pending, Running};
        author.require(JOBS_EXECUTE)?;
        let filter = &request.filter;
        if filter.dead_letter.is_some() {
            let message = "has no place here: what has ended cannot be cancelled";
            return Err(Problem::invalid("deadLetter", message).into());
        }
        check_many(filter, &[Pending, Running])?;
        let mut tries = 1;
        let changed = loop {
            match self.cancel_many_try(author, filter).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "cancelling many collided and is run again");
                    tries += 1;
                }
                ended => break ended.map_err(|error| self.heed(error))?,
            }
        };
        self.relay.wake();
        self.audit_relay.wake();
        for id in &changed.cancelled {
            self.show_status(author.org, *id, "CANCELLED", false).await;
        }
        for id in &changed.stopped {
            self.show_status(author.org, *id, "RUNNING", true).await;
        }
        Ok(ExecutionsChanged {
            count: (changed.cancelled.len() + changed.stopped.len()) as u64,
            more: changed.more,
        })
    }

    async fn cancel_many_try(
        &self,
        author: &Author,
        filter: &ExecutionFilter,
    ) -> Result<Changed, SchedulerError> {
        let org = author.org;
        let wanted = wanted(filter)?;
        let mut tx = self.pools.tenant_tx(org).await?;
        let mut ids = change::open_find_in_tx(&mut tx, org, &wanted, BATCH_MAX as i64 + 1).await?;
        let mut changed = Changed {
            more: ids.len() > BATCH_MAX,
            ..Changed::default()
        };
        ids.truncate(BATCH_MAX);
        let mut left: HashSet<Uuid> = ids.iter().copied().collect();
        for portion in ids.chunks(PORTION) {
            // First what waits: what a claim takes meanwhile is found among what runs.
            let cancelled = change::waiting_cancel_in_tx(&mut tx, org, portion).await?;
            for id in &cancelled {
                left.remove(id);
            }
            changed.cancelled.extend(cancelled);
        }
        if wanted.running {
            let rest: Vec<Uuid> = left.iter().copied().collect();
            for portion in rest.chunks(PORTION) {
                let stopped = change::running_stop_in_tx(&mut tx, org, portion).await?;
                for id in &stopped {
                    left.remove(id);
                }
                changed.stopped.extend(stopped);
            }
        }
        if !changed.more && !left.is_empty() {
            let rest: Vec<Uuid> = left.into_iter().collect();
            changed.more = change::any_open_in_tx(&mut tx, org, &rest).await?;
        }
        let count = changed.cancelled.len() + changed.stopped.len();
        if count > 0 {
            let entry = author
                .did("execution.cancel-many", Resource::kind("execution"))
                .after(json!({
                    "filter": filter, "cancelled": changed.cancelled.len(), "asked": changed.stopped.len(),
                }));
            audit::note_in_tx(&mut tx, entry.count(count)).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Begins an execution again that FAILED, ran into TIMEOUT or was CANCELLED: it waits, due now, with all its retries before it.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:execute`; NOT_FOUND; CONFLICT when it completed or has not ended, when its job is gone, and when another has its
    /// deduplication key; UNAVAILABLE, OUTCOME_UNKNOWN.
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
        let retried = retry_in_tx(&mut tx, org, vec![ended]).await?;
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

    /// Begins the oldest executions again that a filter means and that can: all of them, or none. Those whose job is gone or whose
    /// deduplication key another has stay as they are.
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
        check_many(filter, &[Failed, Timeout, Cancelled])?;
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
        let mut ended =
            change::ended_find_in_tx(&mut tx, org, &wanted, BATCH_MAX as i64 + 1).await?;
        let more = ended.len() > BATCH_MAX;
        ended.truncate(BATCH_MAX);
        let retried = retry_in_tx(&mut tx, org, ended).await?;
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

    /// Tells those who look on where an execution stands. After the commit; never fails.
    pub(crate) async fn show_status(
        &self,
        org: OrgId,
        id: Uuid,
        status: &str,
        cancel_requested: bool,
    ) {
        let data = json!({ "id": id, "status": status, "cancelRequested": cancel_requested });
        self.show(org, id, data).await;
    }
}

/// What became of executions that were to begin again.
struct Retried {
    again: Vec<Again>,
    /// Why not, of the last that was refused.
    refused: Option<&'static str>,
}

/// Begins executions again, as far as their jobs are there and their deduplication keys are free.
async fn retry_in_tx(
    tx: &mut Tx,
    org: OrgId,
    mut ended: Vec<Ended>,
) -> Result<Retried, SchedulerError> {
    let mut refused = None;
    let jobs: BTreeSet<Uuid> = ended.iter().map(|ended| ended.job_id).collect();
    let jobs: Vec<Uuid> = jobs.into_iter().collect();
    let has_keys = ended.iter().any(|ended| !ended.key.is_empty());
    let jobs = enqueue::jobs_share_in_tx(tx, org, &jobs, has_keys).await?;
    let there: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
    ended.retain(|ended| {
        let stays = there.binary_search(&ended.job_id).is_ok();
        if !stays {
            refused = Some("the execution's job is gone");
        }
        stays
    });
    let taken: Vec<Deduplication> = ended.iter().filter_map(deduplication).collect();
    if !taken.is_empty() {
        let got = enqueue::keys_take_in_tx(tx, org, &taken).await?;
        let got: HashSet<Uuid> = got.into_iter().collect();
        ended.retain(|ended| {
            let free = ended.deduplication_key.is_none() || got.contains(&ended.id);
            if !free {
                refused =
                    Some("another execution of the job waits or runs with its deduplication key");
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
    let mut again = Vec::with_capacity(ended.len());
    for portion in ended.chunks(PORTION) {
        let ids: Vec<Uuid> = portion.iter().map(|ended| ended.id).collect();
        again.extend(change::ended_retry_in_tx(tx, org, &ids, &there).await?);
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

/// A filter for many must say something: nothing would mean everything, and be an accident.
fn check_many(filter: &ExecutionFilter, may_be: &[ExecutionStatus]) -> Result<(), Problem> {
    if *filter == ExecutionFilter::default() {
        let message = "is required, unless there is a `status`, `deadLetter`, `from` or `to`";
        return Err(Problem::invalid("jobId", message));
    }
    match filter.status {
        Some(status) if !may_be.contains(&status) => {
            let known: Vec<&str> = may_be.iter().map(|status| status.as_str()).collect();
            let message = format!("must be one of {} here", known.join(", "));
            Err(Problem::invalid("status", message))
        }
        _ => Ok(()),
    }
}

fn conflict(detail: impl Into<String>) -> SchedulerError {
    Problem::new(ProblemKind::Conflict, detail).into()
}

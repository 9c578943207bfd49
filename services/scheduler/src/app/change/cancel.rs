//! Cancelling: what waits ends here; what runs is asked, and its worker's word counts.

use std::collections::HashSet;

use contract::audit::Resource;
use contract::execution::{Execution, ExecutionCancelMany, ExecutionFilter, ExecutionsChanged};
use contract::{Author, Problem};
use database::DatabaseError;
use domain::ExecutionId;
use domain::access::JOBS_EXECUTE;
use domain::execution::{BATCH_MAX, ExecutionStatus};
use serde_json::json;
use uuid::Uuid;

use super::{PORTION, TRIES, check_many, conflict};
use crate::app::execution::wanted;
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::{change, execution};

/// How often one transaction looks for what is to be cancelled.
const LOOKS: usize = 2;

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
        check_many(filter, &[Pending, Running], "`status`, `from` or `to`")?;
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
        // What changed between the look and the lock was left; where it is now, it is found by the next.
        for _ in 0..LOOKS {
            ids.retain(|id| left.contains(id));
            for portion in ids.chunks(PORTION) {
                // First what waits: what a claim takes meanwhile is found among what runs.
                let cancelled = change::waiting_cancel_in_tx(&mut tx, org, portion).await?;
                for id in &cancelled {
                    left.remove(id);
                }
                changed.cancelled.extend(cancelled);
            }
            if wanted.running {
                ids.retain(|id| left.contains(id));
                for portion in ids.chunks(PORTION) {
                    let stopped = change::running_stop_in_tx(&mut tx, org, portion).await?;
                    for id in &stopped {
                        left.remove(id);
                    }
                    changed.stopped.extend(stopped);
                }
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
}

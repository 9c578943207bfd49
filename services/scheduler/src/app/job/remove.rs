//! Removing a job, and all that is open of it.

use contract::job::{JobDelete, JobDeleted};
use contract::{Author, Problem, ProblemKind};
use database::{DatabaseError, Tx};
use domain::access::JOBS_WRITE;
use domain::execution::BATCH_MAX;
use domain::{JobId, OrgId};
use serde_json::json;
use uuid::Uuid;

use super::record::{event, resource, told};
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::job::JobRow;
use crate::store::{change, job};

/// How many executions one statement ends.
const PORTION: usize = 1_000;
/// How often a transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;

impl App {
    /// Removes a job: what waits of it is cancelled, what runs is asked to stop. What has ended stays, and cannot begin again.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:write`; NOT_FOUND; CONFLICT when more executions wait than one request ends; UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn job_delete(
        &self,
        author: &Author,
        request: &JobDelete,
    ) -> Result<JobDeleted, SchedulerError> {
        author.require(JOBS_WRITE)?;
        let mut tries = 1;
        let swept = loop {
            match self.delete_try(author, request.job_id).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "the removal of a job collided and is run again");
                    tries += 1;
                }
                ended => break ended.map_err(|error| self.heed(error))?,
            }
        };
        self.relay.wake();
        self.audit_relay.wake();
        for id in swept.cancelled {
            self.show_status(author.org, id, "CANCELLED", false).await;
        }
        for id in swept.stopped {
            self.show_status(author.org, id, "RUNNING", true).await;
        }
        Ok(JobDeleted {})
    }

    async fn delete_try(&self, author: &Author, id: JobId) -> Result<Swept, SchedulerError> {
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let mut swept = Swept::default();
        // Most of it before anything is held that the claims of others wait for: they pass by what is being cancelled.
        cancel_in_tx(&mut tx, org, id, &mut swept).await?;
        // Until here others could ask for executions of it and begin them; what they committed meanwhile goes the same way.
        let row = job::job_close_in_tx(&mut tx, org, id).await?;
        let row = row.ok_or_else(|| Problem::not_found("job"))?;
        cancel_in_tx(&mut tx, org, id, &mut swept).await?;
        swept.stopped = change::job_stop_in_tx(&mut tx, org, id).await?;
        job::job_delete_in_tx(&mut tx, org, id).await?;
        let gone = JobRow {
            version: row.version + 1,
            ..row
        };
        event(org, &gone, "deleted", author.sub, &[])
            .insert_in_tx(contract::job::SERVICE, &mut tx)
            .await?;
        let entry = author.did("job.delete", resource(&gone));
        let after = json!({ "cancelled": swept.cancelled.len(), "asked": swept.stopped.len() });
        audit::note_in_tx(&mut tx, entry.before(told(&gone)).after(after)).await?;
        tx.commit().await?;
        Ok(swept)
    }
}

/// What the removal of a job ended, and what it asked to stop.
#[derive(Debug, Default)]
struct Swept {
    cancelled: Vec<Uuid>,
    stopped: Vec<Uuid>,
}

/// Ends what waits of a job.
async fn cancel_in_tx(
    tx: &mut Tx,
    org: OrgId,
    id: JobId,
    swept: &mut Swept,
) -> Result<(), SchedulerError> {
    let waiting = change::waiting_of_job_in_tx(tx, org, id, BATCH_MAX as i64 + 1).await?;
    if swept.cancelled.len() + waiting.len() > BATCH_MAX {
        let text = format!(
            "more than {BATCH_MAX} executions of the job wait; cancel them first, by `executions/cancel` with its `jobId`"
        );
        return Err(Problem::new(ProblemKind::Conflict, text).into());
    }
    for portion in waiting.chunks(PORTION) {
        let cancelled = change::waiting_cancel_in_tx(tx, org, portion).await?;
        let all = cancelled.len() == portion.len();
        swept.cancelled.extend(cancelled);
        if !all {
            // One that became due meanwhile was left; it does so once.
            let late = change::waiting_cancel_in_tx(tx, org, portion).await?;
            swept.cancelled.extend(late);
        }
    }
    Ok(())
}

//! Jobs. [`edit`] is what changes of one.

use contract::job::{
    Job, JobCreate, JobDelete, JobEdit, JobExecute, JobGet, JobList, JobPage, Order,
};
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

pub use self::edit::JobEdits;
use super::execution::{Accepted, Started};
use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, Maybe};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

pub mod edit;

/// The operations.
pub struct Jobs {
    owners: Owners,
}

/// A new job.
#[derive(ApiResponse)]
pub enum JobCreated {
    /// The job is committed.
    #[oai(status = 201)]
    Created(
        Shown<Job>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

/// A job that is no more.
#[derive(ApiResponse)]
pub enum JobRemoved {
    /// The job is gone: what waited of it is cancelled, what runs was asked to stop. What has ended stays.
    #[oai(status = 204)]
    Done,
}

impl Jobs {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }

    async fn change(
        &self,
        caller: &Caller,
        id: Uuid,
        edits: JobEdits,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        let edit: JobEdit = edits.of(id.into());
        Ok(Shown(self.owners.write(caller, &edit).await?))
    }

    async fn enabled(
        &self,
        caller: &Caller,
        id: Uuid,
        enabled: bool,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        let edits = JobEdits {
            enabled: Some(enabled),
            ..JobEdits::default()
        };
        self.change(caller, id, edits).await
    }

    async fn paused(
        &self,
        caller: &Caller,
        id: Uuid,
        paused: bool,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        let edits = JobEdits {
            paused: Some(paused),
            ..JobEdits::default()
        };
        self.change(caller, id, edits).await
    }
}

#[OpenApi(prefix_path = "/api/v1/jobs", tag = "Tag::Jobs")]
impl Jobs {
    /// List jobs
    ///
    /// By name.
    #[oai(path = "/", method = "get", operation_id = "job_list")]
    async fn list(
        &self,
        caller: Caller,
        /// Only those that are enabled, or are not.
        enabled: Query<Maybe<bool>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<JobPage>, Refusal<Listing>> {
        let question = JobList {
            enabled: enabled.0.0,
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Make a job
    #[oai(path = "/", method = "post", operation_id = "job_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same job.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<JobCreate>,
    ) -> Result<JobCreated, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let create = JobCreate {
            idempotency_key: key.0,
            ..body.0
        };
        let job = self.owners.write(&caller, &create).await;
        let job = job.map_err(|problem| explain(problem, has_key, "job"))?;
        let location = format!("/api/v1/jobs/{}", job.id);
        Ok(JobCreated::Created(Shown(job), location))
    }

    /// Get a job
    #[oai(path = "/:id", method = "get", operation_id = "job_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Passed<Job>, Refusal<Question>> {
        let question = JobGet {
            job_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Edit a job
    ///
    /// A merge patch (RFC 7396): what is absent stays, `null` sets what a new job has (a name, a handler and the switches cannot be
    /// `null`). The same again changes nothing. What waits keeps its pool and its priority; attempts that begin from now on have the
    /// new configuration, timeout and retries.
    #[oai(path = "/:id", method = "patch", operation_id = "job_edit")]
    async fn edit(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
        body: Given<JobEdits>,
    ) -> Result<Shown<Job>, Refusal<ChangeWithBody>> {
        let edit = body.0.of(id.0.0.into());
        Ok(Shown(self.owners.write(&caller, &edit).await?))
    }

    /// Remove a job
    ///
    /// What waits of it is cancelled, what runs is asked to stop. What has ended stays readable, and cannot begin again. 409 when
    /// more than 10,000 executions wait: cancel them first, by `executions/cancel`.
    #[oai(path = "/:id", method = "delete", operation_id = "job_delete")]
    async fn delete(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<JobRemoved, Refusal<Change>> {
        let delete = JobDelete {
            job_id: id.0.0.into(),
        };
        self.owners.write_many(&caller, &delete).await?;
        Ok(JobRemoved::Done)
    }

    /// Enable a job
    ///
    /// From now on it may be executed.
    #[oai(path = "/:id/enable", method = "post", operation_id = "job_enable")]
    async fn enable(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.enabled(&caller, id.0.0, true).await
    }

    /// Enable a job, by PUT
    ///
    /// As by POST.
    #[oai(path = "/:id/enable", method = "put", operation_id = "job_enable_put")]
    async fn enable_put(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.enabled(&caller, id.0.0, true).await
    }

    /// Disable a job
    ///
    /// From now on it is not executed: who asks is refused. What waits and what runs goes on.
    #[oai(path = "/:id/disable", method = "post", operation_id = "job_disable")]
    async fn disable(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.enabled(&caller, id.0.0, false).await
    }

    /// Disable a job, by PUT
    ///
    /// As by POST.
    #[oai(
        path = "/:id/disable",
        method = "put",
        operation_id = "job_disable_put"
    )]
    async fn disable_put(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.enabled(&caller, id.0.0, false).await
    }

    /// Hold back what waits of a job
    ///
    /// It may still be asked for, and waits. What runs goes on.
    #[oai(path = "/:id/pause", method = "post", operation_id = "job_pause")]
    async fn pause(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.paused(&caller, id.0.0, true).await
    }

    /// Let what waits of a job begin again
    #[oai(path = "/:id/resume", method = "post", operation_id = "job_resume")]
    async fn resume(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
    ) -> Result<Shown<Job>, Refusal<Change>> {
        self.paused(&caller, id.0.0, false).await
    }

    /// Execute a job
    ///
    /// The execution is committed when this is answered, and begins as soon as a worker is free. With a `deduplicationKey` that
    /// another execution of the job has, which waits or runs, that one is the answer, with `duplicate`.
    #[oai(path = "/:id/execute", method = "post", operation_id = "job_execute")]
    async fn execute(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Id>,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same execution.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<Order>,
    ) -> Result<Accepted, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let execute = JobExecute {
            job_id: id.0.0.into(),
            order: body.0,
            idempotency_key: key.0,
        };
        let execution = self.owners.write(&caller, &execute).await;
        let execution = execution.map_err(|problem| explain(problem, has_key, "execution"))?;
        Ok(Accepted::of(Started::from(execution)))
    }
}

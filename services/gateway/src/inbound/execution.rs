//! Executions of jobs, and what is said of all of them ([`settings`]). [`logs`] follows what one logs, as long as its
//! [`reader`] may; [`streams`] bounds how many do.

use std::sync::Arc;

use contract::execution::{
    Execution, ExecutionBatch, ExecutionBatched, ExecutionCancel, ExecutionCancelMany,
    ExecutionFilter, ExecutionGet, ExecutionList, ExecutionPage, ExecutionRetry,
    ExecutionRetryMany, ExecutionsChanged,
};
use domain::execution::ExecutionStatus;
use domain::{ExecutionId, Timestamp};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use runtime::Shutdown;
use serde::Serialize;
use uuid::Uuid;

use self::logs::Logs;
use self::reader::Reader;
use self::streams::Streams;
use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, LogLine, Maybe, Word};
use crate::caller::{Caller, Presented};
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

pub mod logs;
pub mod reader;
pub mod settings;
pub mod streams;

/// The operations.
pub struct Executions {
    owners: Owners,
    streams: Arc<Streams>,
    shutdown: Shutdown,
}

/// An execution that was asked for: its id also as `executionId`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    #[serde(flatten)]
    execution: Execution,
    execution_id: ExecutionId,
}

impl From<Execution> for Started {
    fn from(execution: Execution) -> Self {
        Self {
            execution_id: execution.id,
            execution,
        }
    }
}

/// An execution that begins as soon as it may.
#[derive(ApiResponse)]
pub enum Accepted {
    /// The execution is committed.
    #[oai(status = 202)]
    Execution(
        Shown<Started>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

impl Accepted {
    /// With where it is.
    #[must_use]
    pub fn of(started: Started) -> Self {
        let location = format!("/api/v1/executions/{}", started.execution_id);
        Self::Execution(Shown(started), location)
    }
}

/// Executions that begin as soon as they may.
#[derive(ApiResponse)]
pub enum BatchAccepted {
    /// All of them are committed.
    #[oai(status = 202)]
    Batch(Shown<ExecutionBatched>),
}

/// Executions that begin again as soon as they may.
#[derive(ApiResponse)]
pub enum RetryAccepted {
    /// So many wait again.
    #[oai(status = 202)]
    Changed(Shown<ExecutionsChanged>),
}

/// What became of the wish to cancel.
#[derive(ApiResponse)]
pub enum Stopped {
    /// The execution is `CANCELLED`.
    #[oai(status = 200)]
    Ended(Shown<Execution>),
    /// A worker has it, and was asked to stop it.
    #[oai(status = 202)]
    Requested(Shown<Execution>),
}

impl Executions {
    /// Operations that ask these owners. Streams end when the shutdown begins.
    #[must_use]
    pub fn new(owners: Owners, shutdown: Shutdown) -> Self {
        Self {
            owners,
            streams: Arc::default(),
            shutdown,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/executions", tag = "Tag::Executions")]
impl Executions {
    /// List executions
    ///
    /// The newest first. All filters that are given must fit.
    #[oai(path = "/", method = "get", operation_id = "execution_list")]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn list(
        &self,
        caller: Caller,
        /// Only of this job.
        #[oai(name = "jobId")]
        job_id: Query<Maybe<Word<Uuid>>>,
        /// Only in this status.
        status: Query<Maybe<Word<ExecutionStatus>>>,
        /// Only dead letters, or only others.
        #[oai(name = "deadLetter")]
        dead_letter: Query<Maybe<bool>>,
        /// Only those created at this time or later.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Only those created before this time.
        to: Query<Maybe<Word<Timestamp>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<ExecutionPage>, Refusal<Listing>> {
        let question = ExecutionList {
            filter: ExecutionFilter {
                job_id: job_id.0.value().map(Into::into),
                status: status.0.value(),
                dead_letter: dead_letter.0.0,
                from: from.0.value(),
                to: to.0.value(),
            },
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Execute many jobs
    ///
    /// All of them, or, when this is refused, none: there is one commit. `items` of the answer are in the order of the request.
    #[oai(path = "/batch", method = "post", operation_id = "execution_batch")]
    async fn batch(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same executions.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<ExecutionBatch>,
    ) -> Result<BatchAccepted, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let batch = ExecutionBatch {
            idempotency_key: key.0,
            ..body.0
        };
        let batched = self.owners.write_many(&caller, &batch).await;
        let batched = batched.map_err(|problem| explain(problem, has_key, "execution"))?;
        Ok(BatchAccepted::Batch(Shown(batched)))
    }

    /// Cancel many executions
    ///
    /// The oldest 10,000 that fit; `more` says whether there are others. What waits is `CANCELLED` at once, what runs is asked to
    /// stop.
    #[oai(
        path = "/cancel",
        method = "post",
        operation_id = "execution_cancel_many"
    )]
    async fn cancel_many(
        &self,
        caller: Caller,
        body: Given<ExecutionCancelMany>,
    ) -> Result<Shown<ExecutionsChanged>, Refusal<ChangeWithBody>> {
        caller.heavy()?;
        Ok(Shown(self.owners.write_many(&caller, &body.0).await?))
    }

    /// Begin many executions again
    ///
    /// The oldest 10,000 that fit and can begin again; `more` says whether there are others. Those whose job is gone or disabled, or
    /// whose deduplication key another execution has, stay as they are. `runAs` of the others is who asks for this.
    #[oai(
        path = "/retry",
        method = "post",
        operation_id = "execution_retry_many"
    )]
    async fn retry_many(
        &self,
        caller: Caller,
        body: Given<ExecutionRetryMany>,
    ) -> Result<RetryAccepted, Refusal<ChangeWithBody>> {
        caller.heavy()?;
        let changed = self.owners.write_many(&caller, &body.0).await?;
        Ok(RetryAccepted::Changed(Shown(changed)))
    }

    /// Get an execution
    ///
    /// With the last 64 KiB of its log.
    #[oai(path = "/:id", method = "get", operation_id = "execution_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The execution.
        id: Path<Id>,
    ) -> Result<Passed<Execution>, Refusal<Question>> {
        let question = ExecutionGet {
            execution_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Cancel an execution
    ///
    /// One that waits is `CANCELLED` at once. One that runs is asked to stop, and says what became of it.
    #[oai(
        path = "/:id/cancel",
        method = "post",
        operation_id = "execution_cancel"
    )]
    async fn cancel(
        &self,
        caller: Caller,
        /// The execution.
        id: Path<Id>,
    ) -> Result<Stopped, Refusal<Change>> {
        let cancel = ExecutionCancel {
            execution_id: id.0.0.into(),
        };
        let execution = self.owners.write(&caller, &cancel).await?;
        if execution.status.is_terminal() {
            Ok(Stopped::Ended(Shown(execution)))
        } else {
            Ok(Stopped::Requested(Shown(execution)))
        }
    }

    /// Begin an execution again
    ///
    /// One that `FAILED`, ran into `TIMEOUT` or was `CANCELLED` waits again, due now, with all its retries before it. It keeps its id
    /// and what is known of its attempts; `runAs` is who asks for this.
    #[oai(path = "/:id/retry", method = "post", operation_id = "execution_retry")]
    async fn retry(
        &self,
        caller: Caller,
        /// The execution.
        id: Path<Id>,
    ) -> Result<Accepted, Refusal<Change>> {
        let retry = ExecutionRetry {
            execution_id: id.0.0.into(),
        };
        let execution = self.owners.write(&caller, &retry).await?;
        Ok(Accepted::of(Started::from(execution)))
    }

    /// Follow an execution's log
    ///
    /// Server-sent events. `log` has lines, and its id is the place of the last of them: what is kept comes first, all of it or what is
    /// after `Last-Event-ID` (or `after`), then what is logged from now on. `end` says in which `status` the execution ended,
    /// and ends the stream. It also ends with the credential's grant, within five minutes, and as soon as the credential is revoked, with
    /// `problem`: who connects again with the last id goes on from there, and misses nothing that is kept.
    #[oai(path = "/:id/logs", method = "get", operation_id = "execution_logs")]
    async fn logs(
        &self,
        caller: Caller,
        presented: Presented,
        /// The execution.
        id: Path<Id>,
        /// The place of the last line that is known, such as `2-17`: its attempt, and its number in it.
        after: Query<Maybe<LogLine>>,
        /// The same, as browsers say it; it goes before `after`.
        #[oai(name = "Last-Event-ID")]
        last: Header<Maybe<LogLine>>,
    ) -> Result<Logs, Refusal<Question>> {
        let turn = self.streams.take(caller.org(), caller.one())?;
        let after = last.0.0.or(after.0.0).map(|line| line.0);
        let id = ExecutionId::from(id.0.0);
        let reader = Reader::new(&self.owners, caller, presented, turn).await?;
        let logs = Logs::begin(&self.owners, reader, id, after, &self.shutdown).await?;
        Ok(logs)
    }
}

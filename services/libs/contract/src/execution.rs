//! Calls about executions, which the scheduler answers.

use domain::execution::{ExecutionStatus, Outcome};
use domain::{ExecutionId, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::grant::PrincipalKind;
use crate::job::Order;

/// Why an attempt did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionError {
    /// A sentence.
    pub message: String,
    /// Where, in the handler's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// An attempt that is over and was followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: i32,
    /// How it ended.
    pub outcome: Outcome,
    /// When the worker got it.
    pub started_at: Timestamp,
    /// When that was known.
    pub ended_at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
}

/// On whose behalf: who asked for it last, be it by a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAs {
    /// What it is.
    pub kind: PrincipalKind,
    /// Its id.
    pub id: uuid::Uuid,
}

/// An execution of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// The attempt that runs, or was the last; 0 before the first.
    pub attempt: i32,
    /// On whose behalf.
    pub run_as: RunAs,
    /// Its place within the organisation: the highest first.
    pub priority: i16,
    /// What it replaces of the job's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// While it waits or runs, no other of the job has this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication_key: Option<String>,
    /// What the job's `keyConcurrency` counts by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// When it was to run first.
    pub scheduled_for: Timestamp,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When the next attempt may begin; while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// When the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How long the last attempt took, in milliseconds; once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// What the handler returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
    /// What the handler last said of how far it is; while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Value>,
    /// The attempts before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Whether it failed as often as its job allows, and waits for somebody to look at it.
    pub dead_letter: bool,
    /// Whether somebody asked that it should stop.
    pub cancel_requested: bool,
    /// Whether it was there already, with the same deduplication key; in the answer to `job.execute` alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// The last 64 KiB of its log, in `execution.get` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
    /// Whether there was more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_truncated: Option<bool>,
}

/// An execution in short: 300 bytes of JSON at most, so that the largest batch fits into one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionSummary {
    /// Its id.
    pub id: ExecutionId,
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Whether it was there already: one with the same deduplication key waits or runs.
    pub duplicate: bool,
    /// When it was to run first.
    pub scheduled_for: Timestamp,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// One of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItem {
    /// The job.
    pub job_id: JobId,
    /// How.
    #[serde(flatten)]
    pub order: Order,
}

/// `execution.batch`: all of them or none, in one commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionBatch {
    /// 1 to 10,000.
    pub items: Vec<BatchItem>,
    /// The caller's `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// What became of a batch, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionBatched {
    /// One for each item.
    pub items: Vec<ExecutionSummary>,
}

/// `execution.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionGet {
    /// The execution.
    pub execution_id: ExecutionId,
}

/// Which executions; all fields that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionFilter {
    /// Only of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Only in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExecutionStatus>,
    /// Only those that failed for good, or only the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<bool>,
    /// Only those created at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Only those created before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// `execution.list`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionList {
    /// Which.
    #[serde(flatten)]
    pub filter: ExecutionFilter,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of executions, without their logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPage {
    /// The executions.
    pub items: Vec<Execution>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `execution.cancel`: one that waits is CANCELLED at once; one that runs is asked to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionCancel {
    /// The execution.
    pub execution_id: ExecutionId,
}

/// `execution.retry`: one that FAILED, ran into TIMEOUT or was CANCELLED waits again, with all its retries before it, on behalf of
/// who asks for this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionRetry {
    /// The execution.
    pub execution_id: ExecutionId,
}

/// `execution.cancel-many`: at most 10,000 of them, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionCancelMany {
    /// Which; `status` may be PENDING or RUNNING, `deadLetter` has no place here.
    #[serde(flatten)]
    pub filter: ExecutionFilter,
}

/// `execution.retry-many`: at most 10,000 of them, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionRetryMany {
    /// Which; `status` may be FAILED, TIMEOUT or CANCELLED.
    #[serde(flatten)]
    pub filter: ExecutionFilter,
}

/// What became of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionsChanged {
    /// How many changed.
    pub count: u64,
    /// Whether there are more of them: ask again.
    pub more: bool,
}

/// `execution.log`: lines, from a place on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionLog {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Only what comes after this line; everything that is kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<LogPlace>,
}

/// The place of a line: its attempt, and its number in it, from 0. As a text: `2-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPlace {
    /// The attempt.
    pub attempt: i32,
    /// The line.
    pub line: i64,
}

/// Lines of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionLogPage {
    /// The lines, in their order.
    pub items: Vec<LogLines>,
    /// Where the execution stands.
    pub status: ExecutionStatus,
}

/// Lines that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLines {
    /// The place of the first.
    pub first: LogPlace,
    /// The lines.
    pub lines: Vec<String>,
}

crate::call!(ExecutionBatch => ExecutionBatched: "scheduler", "execution", "batch", Gateway, idempotent: false);
crate::call!(ExecutionGet => Execution: "scheduler", "execution", "get", Gateway, idempotent: true);
crate::call!(ExecutionList => ExecutionPage: "scheduler", "execution", "list", Gateway, idempotent: true);
crate::call!(ExecutionCancel => Execution: "scheduler", "execution", "cancel", Gateway, idempotent: true);
crate::call!(ExecutionRetry => Execution: "scheduler", "execution", "retry", Gateway, idempotent: false);
crate::call!(ExecutionCancelMany => ExecutionsChanged: "scheduler", "execution", "cancel-many", Gateway, idempotent: true);
crate::call!(ExecutionRetryMany => ExecutionsChanged: "scheduler", "execution", "retry-many", Gateway, idempotent: false);
crate::call!(ExecutionLog => ExecutionLogPage: "scheduler", "execution", "log", Gateway, idempotent: true);

impl std::fmt::Display for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.attempt, self.line)
    }
}

impl std::str::FromStr for LogPlace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('-')
            .and_then(|(attempt, line)| {
                Some(Self {
                    attempt: attempt.parse().ok().filter(|attempt| *attempt > 0)?,
                    line: line.parse().ok().filter(|line| *line >= 0)?,
                })
            })
            .ok_or_else(|| {
                format!(
                    "`{}` is no place in a log, such as 1-0",
                    text.chars().take(32).collect::<String>()
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use domain::execution::BATCH_MAX;

    use super::*;
    use crate::server_config::MAX_PAYLOAD;

    #[test]
    fn the_largest_batch_fits_into_one_message() -> Result<(), serde_json::Error> {
        let mut longest = 0;
        for status in ExecutionStatus::ALL {
            let summary = ExecutionSummary {
                id: ExecutionId::new(),
                job_id: JobId::new(),
                status,
                duplicate: false,
                scheduled_for: Timestamp::now(),
                created_at: Timestamp::now(),
            };
            longest = longest.max(serde_json::to_vec(&summary)?.len());
        }
        assert!(longest <= 300, "{longest} bytes");
        assert!((longest + 1) * BATCH_MAX < MAX_PAYLOAD * 3 / 4);
        Ok(())
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = LogPlace {
            attempt: 2,
            line: 17,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "2", "0-1", "1--1", "a-b", "1-"] {
            assert!(bad.parse::<LogPlace>().is_err(), "{bad}");
        }
    }
}

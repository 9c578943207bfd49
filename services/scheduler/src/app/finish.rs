//! How attempts end: judged and written by the group commit, answered after it.

use std::collections::BTreeMap;

use bus::trace::KeyValue;
use contract::Problem;
use contract::execution::ExecutionError;
use contract::run::{Finish, FinishVerdict, ITEMS_MAX, RunFinish, RunFinished};
use domain::execution::{
    ERROR_MESSAGE_MAX_CHARS, ERROR_STACK_MAX_CHARS, Outcome, RESULT_MAX_BYTES,
};
use futures::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::finish::{Ending, Moved, storable};

/// Of how many that ended at once those who look on are told.
const SHOWN_MAX: usize = 64;

impl App {
    /// Ends attempts, each answered.
    ///
    /// # Errors
    /// INVALID for too many, or an outcome that no worker may say.
    pub async fn run_finish(&self, request: RunFinish) -> Result<RunFinished, SchedulerError> {
        let began = Instant::now();
        if request.items.len() > ITEMS_MAX {
            let text = format!("has {} items; at most {ITEMS_MAX}", request.items.len());
            return Err(Problem::invalid("items", text).into());
        }
        let lost = |item: &Finish| item.outcome == Outcome::Lost;
        if let Some(index) = request.items.iter().position(lost) {
            let path = format!("items[{index}].outcome");
            return Err(Problem::invalid(path, "LOST is the scheduler's word").into());
        }
        let endings = request.items.into_iter().map(|finish| {
            self.finishes.submit(Ending {
                finish: bounded(finish),
                jitter: rand_part(),
                event_id: Uuid::now_v7(),
            })
        });
        let mut verdicts = Vec::new();
        let mut moved = Vec::new();
        for answer in join_all(endings).await {
            let verdict = match answer {
                Ok(ended) => {
                    moved.extend(ended.moved);
                    ended.verdict
                }
                Err(error) => {
                    let error = self.heed(error.into());
                    tracing::warn!(%error, "an ending is not committed; the worker says it again");
                    FinishVerdict::Retry
                }
            };
            let label = match verdict {
                FinishVerdict::Applied => "applied",
                FinishVerdict::Duplicate => "duplicate",
                FinishVerdict::Fenced => "fenced",
                FinishVerdict::Retry => "retry",
            };
            self.metrics.finishes.with_label_values(&[label]).inc();
            verdicts.push(verdict);
        }
        self.told(&moved, began).await;
        Ok(RunFinished { verdicts })
    }

    /// After the commit of what was asked at `began`: wakes who relays events and who offers, tells those who look on, and records
    /// each end in its trace.
    pub(crate) async fn told(&self, moved: &[Moved], began: Instant) {
        let mut lanes: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for one in moved {
            trace(one, began);
            if one.limited || one.waits {
                lanes.entry(&one.pool).or_default().push(one.lane.clone());
            }
            if let Some(status) = &one.status {
                self.metrics.ended.with_label_values(&[status]).inc();
                let took = one.at.signed_duration_since(one.created_at);
                let took = took.num_milliseconds() as f64 / 1_000.0;
                self.metrics.duration.observe(took);
            }
        }
        if moved.iter().any(|one| one.status.is_some()) {
            self.relay.wake();
        }
        for (pool, lanes) in lanes {
            self.bell.waits(pool, lanes).await;
        }
        for one in moved.iter().take(SHOWN_MAX) {
            let status = one.status.as_deref().unwrap_or("PENDING");
            let shown = json!({ "id": one.id, "jobId": one.lane.job, "status": status, "attempt": one.attempt });
            self.show(one.org, one.id, shown).await;
        }
    }
}

/// The way back, in the trace of who asked. What workers say of many executions at once is in no trace of any of them: the row
/// itself knows its own.
fn trace(moved: &Moved, began: Instant) {
    let Some(parent) = &moved.traceparent else {
        return;
    };
    bus::trace::record(parent, "execution.finish", began, || {
        vec![
            KeyValue::new("execution", moved.id.to_string()),
            KeyValue::new("attempt", i64::from(moved.attempt)),
            KeyValue::new("outcome", moved.outcome.clone().unwrap_or_default()),
        ]
    });
}

/// What is kept of an ending. A result that is too long is no result: the attempt failed, and would again.
fn bounded(mut finish: Finish) -> Finish {
    let bytes = finish
        .result
        .as_ref()
        .map(|result| result.to_string().len());
    if let Some(bytes) = bytes.filter(|bytes| *bytes > RESULT_MAX_BYTES) {
        finish.result = None;
        finish.permanent = true;
        finish.outcome = Outcome::Failed;
        finish.error = Some(ExecutionError {
            message: format!("the result has {bytes} bytes; at most {RESULT_MAX_BYTES} are kept"),
            stack: None,
        });
    }
    finish.result = finish.result.map(storable);
    finish.error = finish.error.map(|error| ExecutionError {
        message: cut(&error.message, ERROR_MESSAGE_MAX_CHARS),
        stack: error.stack.map(|stack| cut(&stack, ERROR_STACK_MAX_CHARS)),
    });
    finish
}

fn cut(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

/// From 0 to 1. A UUID's random bits are random enough to spread what failed together.
fn rand_part() -> f64 {
    let bits = (Uuid::new_v4().as_u128() & 0xffff_ffff) as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

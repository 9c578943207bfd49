//! Changing executions: `cancel` ends them, `retry` begins them again. No event tells of a beginning, the first or another:
//! events are of ends and of configuration.

use contract::execution::ExecutionFilter;
use contract::{Problem, ProblemKind};
use domain::OrgId;
use domain::execution::ExecutionStatus;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;

mod cancel;
mod retry;

/// How many executions one statement changes.
const PORTION: usize = 1_000;
/// How often a transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;

impl App {
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

/// A filter for many must say something: nothing would mean everything, and be an accident. `others`: its fields besides the job.
fn check_many(
    filter: &ExecutionFilter,
    may_be: &[ExecutionStatus],
    others: &str,
) -> Result<(), Problem> {
    if *filter == ExecutionFilter::default() {
        let message = format!("is required, unless there is a {others}");
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

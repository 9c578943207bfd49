//! What agents say of their actions: handed to the group commit, answered after it.

use bus::AgentSender;
use chrono::{DateTime, Utc};
use contract::agent::{ReportAnswer, ResultReport, Step, Verdict};
use database::DatabaseError;
use domain::Timestamp;
use domain::action::Outcome;
use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::error::ActionError;
use crate::store::report::{Report, Reported};

/// The longest result that is kept, in bytes of its JSON text.
const RESULT_MAX_BYTES: usize = 64 * 1024;
/// The longest code of an error.
const ERROR_CODE_MAX_CHARS: usize = 64;
/// The longest sentence of an error.
const ERROR_MESSAGE_MAX_CHARS: usize = 4_000;

impl App {
    /// An action is in the machine's journal.
    ///
    /// # Errors
    /// UNAVAILABLE: the agent says it again.
    pub async fn report_accepted(
        &self,
        from: AgentSender,
        step: Step,
    ) -> Result<ReportAnswer, ActionError> {
        let at = Some(bounded(step.at));
        self.report(Report {
            delivered_at: at,
            ..empty(from, step.action, step.attempt, "DELIVERED")
        })
        .await
    }

    /// An action began.
    ///
    /// # Errors
    /// UNAVAILABLE: the agent says it again.
    pub async fn report_started(
        &self,
        from: AgentSender,
        step: Step,
    ) -> Result<ReportAnswer, ActionError> {
        let at = Some(bounded(step.at));
        self.report(Report {
            started_at: at,
            ..empty(from, step.action, step.attempt, "RUNNING")
        })
        .await
    }

    /// An action ended.
    ///
    /// # Errors
    /// UNAVAILABLE: the agent says it again.
    pub async fn report_result(
        &self,
        from: AgentSender,
        report: ResultReport,
    ) -> Result<ReportAnswer, ActionError> {
        let error = report
            .error
            .map(|error| serde_json::to_value(short(&error)))
            .transpose()
            .map_err(|error| ActionError::Bug(error.to_string()))?;
        self.report(Report {
            delivered_at: report.accepted_at.map(bounded),
            started_at: report.started_at.map(bounded),
            finished_at: Some(bounded(report.finished_at)),
            result: report.result.map(storable),
            error: error.map(without_nul),
            ..empty(from, report.action, report.attempt, outcome(report.outcome))
        })
        .await
    }

    pub(crate) async fn report(&self, report: Report) -> Result<ReportAnswer, ActionError> {
        let (org, machine, action) = (report.org, report.machine, report.action);
        let written = self.reports.submit(report).await;
        let from = AgentSender { org, machine };
        self.report_answer(from, action, written).await
    }

    /// What the machine is told of a report that was written, or was not; and everybody else of the action.
    pub(crate) async fn report_answer(
        &self,
        from: AgentSender,
        action: domain::ActionId,
        written: Result<Reported, DatabaseError>,
    ) -> Result<ReportAnswer, ActionError> {
        let reported = match written {
            Ok(reported) => reported,
            // A value that no column takes will not be taken the next time either.
            Err(DatabaseError::Data(reason)) => {
                tracing::warn!(org = %from.org, machine = %from.machine, %action, reason, "a report that cannot be stored is fenced");
                return Ok(ReportAnswer {
                    verdict: Verdict::Fenced,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let verdict = match reported.verdict {
            Verdict::Applied => "applied",
            Verdict::Duplicate => "duplicate",
            Verdict::Fenced | Verdict::Retry => "fenced",
        };
        self.metrics.reports.with_label_values(&[verdict]).inc();
        if let Some(row) = &reported.action {
            if let Some(finished) = row.finished_at {
                let took = Timestamp::now()
                    .since(row.created_at.into())
                    .num_milliseconds();
                self.metrics.duration.observe(took as f64 / 1_000.0);
                tracing::debug!(action = %row.id, status = row.status, %finished, "an action ended");
            }
            self.show(row).await;
        }
        Ok(ReportAnswer {
            verdict: reported.verdict,
        })
    }
}

pub(crate) fn empty(
    from: AgentSender,
    action: domain::ActionId,
    attempt: i32,
    status: &'static str,
) -> Report {
    Report {
        org: from.org,
        machine: from.machine,
        action,
        attempt,
        status,
        delivered_at: None,
        started_at: None,
        finished_at: None,
        result: None,
        error: None,
        event_id: Uuid::now_v7(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    outcome.status().as_str()
}

/// A machine's clock may say anything; the column takes what a calendar has.
fn bounded(time: Timestamp) -> DateTime<Utc> {
    let earliest = Timestamp::from_millis(0).unwrap_or(time);
    time.clamp(earliest, Timestamp::now().plus(chrono::Duration::days(1)))
        .utc()
}

/// A machine's error in a size that lists can show many of.
pub(crate) fn short(error: &contract::agent::ActionError) -> contract::agent::ActionError {
    let cut = |text: &str, max: usize| text.chars().take(max).collect();
    contract::agent::ActionError {
        code: cut(&error.code, ERROR_CODE_MAX_CHARS),
        message: cut(&error.message, ERROR_MESSAGE_MAX_CHARS),
    }
}

/// What a `jsonb` column takes: no U+0000, and not more than it should.
pub(crate) fn storable(value: Value) -> Value {
    if value.to_string().len() > RESULT_MAX_BYTES {
        return serde_json::json!({ "truncated": true, "reason": format!("larger than {RESULT_MAX_BYTES} bytes") });
    }
    without_nul(value)
}

pub(crate) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key.replace('\0', "\u{fffd}"), without_nul(value)))
                .collect(),
        ),
        other => other,
    }
}

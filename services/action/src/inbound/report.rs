//! What agents say of their actions.

use std::sync::Arc;

use bus::{AgentSender, BusError, Service};
use contract::Problem;
use contract::agent::{ReportAnswer, ResultReport, Step};
use contract::subject::Up;

use crate::app::App;

/// Answers `accepted`, `started` and `result`, after the commit.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer_agent(Up::Accepted, move |from, step| {
            accepted(this.clone(), from, step)
        })
        .await?;
    let this = app.clone();
    service
        .answer_agent(Up::Started, move |from, step| {
            started(this.clone(), from, step)
        })
        .await?;
    let this = app.clone();
    service
        .answer_agent(Up::Result, move |from, report| {
            result(this.clone(), from, report)
        })
        .await
}

async fn accepted(app: Arc<App>, from: AgentSender, step: Step) -> Result<ReportAnswer, Problem> {
    Ok(app.report_accepted(from, step).await?)
}

async fn started(app: Arc<App>, from: AgentSender, step: Step) -> Result<ReportAnswer, Problem> {
    Ok(app.report_started(from, step).await?)
}

async fn result(
    app: Arc<App>,
    from: AgentSender,
    report: ResultReport,
) -> Result<ReportAnswer, Problem> {
    Ok(app.report_result(from, report).await?)
}

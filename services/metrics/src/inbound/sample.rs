//! Samples of agents (`df.up.….metrics`), and `sample.list`.

use std::sync::Arc;

use bus::{AgentSender, BusError, Context, Service};
use contract::agent::SampleBatch;
use contract::metrics::SampleList;
use contract::subject::Up;

use crate::app::App;

/// Answers them.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app_of_report = app.clone();
    service
        .answer_agent(Up::Metrics, move |from: AgentSender, batch: SampleBatch| {
            let app = app_of_report.clone();
            async move { Ok(app.sample_report(from, batch).await?) }
        })
        .await?;
    let app = app.clone();
    service
        .answer(move |context: Context, request: SampleList| {
            let app = app.clone();
            async move { Ok(app.sample_list(context.grant()?, request).await?) }
        })
        .await
}

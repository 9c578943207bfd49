//! The farewell of agents (`df.up.….stopping`), and `presence.get` for services.

use std::sync::Arc;

use bus::{AgentSender, BusError, Context, Service};
use contract::agent::Stopping;
use contract::metrics::PresenceGet;
use contract::subject::Up;

use crate::app::App;

/// Answers them.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app_of_stopping = app.clone();
    service
        .answer_agent(
            Up::Stopping,
            move |from: AgentSender, stopping: Stopping| {
                let app = app_of_stopping.clone();
                async move { Ok(app.stopping_report(from, stopping).await?) }
            },
        )
        .await?;
    let app = app.clone();
    service
        .answer(move |_context: Context, request: PresenceGet| {
            let app = app.clone();
            async move { Ok(app.presence_get(request).await?) }
        })
        .await
}

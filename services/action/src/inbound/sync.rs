//! What an agent asks when it comes, and now and then.

use std::sync::Arc;

use bus::{AgentSender, BusError, Service};
use contract::Problem;
use contract::order::{Signed, SyncRequest};
use contract::subject::Up;

use crate::app::App;

/// Answers `sync` with a signed page.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer_agent(Up::Sync, move |from, request| {
            sync(this.clone(), from, request)
        })
        .await
}

async fn sync(app: Arc<App>, from: AgentSender, request: SyncRequest) -> Result<Signed, Problem> {
    Ok(app.machine_sync(from, request).await?)
}

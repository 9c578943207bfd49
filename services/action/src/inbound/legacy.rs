//! What agents and scripts of Dash-Fleet ask of actions.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::legacy::{
    LegacyNoted, LegacyPending, LegacyQueue, LegacyQueued, LegacyResult, LegacyTasks,
};

use crate::app::App;

/// Answers `legacy.queue`, `.pending` and `.result`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| queue(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| pending(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| result(this.clone(), context, request))
        .await
}

async fn queue(
    app: Arc<App>,
    context: Context,
    request: LegacyQueue,
) -> Result<LegacyQueued, Problem> {
    Ok(app.legacy_queue(context.grant()?, request).await?)
}

async fn pending(
    app: Arc<App>,
    context: Context,
    request: LegacyPending,
) -> Result<LegacyTasks, Problem> {
    let (grant, token) = (context.grant()?, context.grant_token());
    Ok(app.legacy_pending(grant, token, &request).await?)
}

async fn result(
    app: Arc<App>,
    context: Context,
    request: LegacyResult,
) -> Result<LegacyNoted, Problem> {
    let (grant, token) = (context.grant()?, context.grant_token());
    Ok(app.legacy_result(grant, token, request).await?)
}

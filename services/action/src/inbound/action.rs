//! What users ask about actions.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::action::{
    Action, ActionBatch, ActionCancel, ActionCreate, ActionFanOut, ActionGet, ActionList,
    ActionPage,
};

use crate::app::App;

/// Answers `action.create`, `.fan-out`, `.get`, `.list` and `.cancel`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| create(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| fan_out(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| get(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| list(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| cancel(this.clone(), context, request))
        .await
}

async fn create(app: Arc<App>, context: Context, request: ActionCreate) -> Result<Action, Problem> {
    Ok(app.action_create(context.grant()?, request).await?)
}

async fn fan_out(
    app: Arc<App>,
    context: Context,
    request: ActionFanOut,
) -> Result<ActionBatch, Problem> {
    Ok(app
        .action_fan_out(context.grant()?, context.grant_token(), request)
        .await?)
}

async fn get(app: Arc<App>, context: Context, request: ActionGet) -> Result<Action, Problem> {
    Ok(app.action_get(context.grant()?, request.action_id).await?)
}

async fn list(app: Arc<App>, context: Context, request: ActionList) -> Result<ActionPage, Problem> {
    Ok(app.action_list(context.grant()?, request).await?)
}

async fn cancel(app: Arc<App>, context: Context, request: ActionCancel) -> Result<Action, Problem> {
    Ok(app
        .action_cancel(context.grant()?, request.action_id)
        .await?)
}

//! What users ask about executions.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::execution::{
    Execution, ExecutionBatch, ExecutionBatched, ExecutionCancel, ExecutionCancelMany,
    ExecutionGet, ExecutionList, ExecutionLog, ExecutionLogPage, ExecutionPage, ExecutionRetry,
    ExecutionRetryMany, ExecutionsChanged,
};

use crate::app::App;

/// Answers `execution.batch`, `.get`, `.list`, `.cancel`, `.retry`, `.cancel-many`, `.retry-many` and `.log`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| batch(this.clone(), context, request))
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
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| retry(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| cancel_many(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| retry_many(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| log(this.clone(), context, request))
        .await
}

async fn batch(
    app: Arc<App>,
    context: Context,
    request: ExecutionBatch,
) -> Result<ExecutionBatched, Problem> {
    Ok(app.execution_batch(context.grant()?, request).await?)
}

async fn get(app: Arc<App>, context: Context, request: ExecutionGet) -> Result<Execution, Problem> {
    Ok(app
        .execution_get(context.grant()?, request.execution_id)
        .await?)
}

async fn list(
    app: Arc<App>,
    context: Context,
    request: ExecutionList,
) -> Result<ExecutionPage, Problem> {
    Ok(app.execution_list(context.grant()?, &request).await?)
}

async fn cancel(
    app: Arc<App>,
    context: Context,
    request: ExecutionCancel,
) -> Result<Execution, Problem> {
    Ok(app
        .execution_cancel(context.grant()?, request.execution_id)
        .await?)
}

async fn retry(
    app: Arc<App>,
    context: Context,
    request: ExecutionRetry,
) -> Result<Execution, Problem> {
    Ok(app
        .execution_retry(context.grant()?, request.execution_id)
        .await?)
}

async fn cancel_many(
    app: Arc<App>,
    context: Context,
    request: ExecutionCancelMany,
) -> Result<ExecutionsChanged, Problem> {
    Ok(app
        .execution_cancel_many(context.grant()?, &request)
        .await?)
}

async fn retry_many(
    app: Arc<App>,
    context: Context,
    request: ExecutionRetryMany,
) -> Result<ExecutionsChanged, Problem> {
    Ok(app.execution_retry_many(context.grant()?, &request).await?)
}

async fn log(
    app: Arc<App>,
    context: Context,
    request: ExecutionLog,
) -> Result<ExecutionLogPage, Problem> {
    Ok(app.execution_log(context.grant()?, &request).await?)
}

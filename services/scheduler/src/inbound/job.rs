//! What users ask about jobs.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::execution::Execution;
use contract::job::{
    Job, JobCreate, JobDelete, JobDeleted, JobEdit, JobExecute, JobGet, JobList, JobPage,
};

use crate::app::App;

/// Answers `job.create`, `.get`, `.list`, `.edit`, `.delete` and `.execute`.
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
        .answer(move |context, request| get(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| list(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| edit(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| delete(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| execute(this.clone(), context, request))
        .await
}

async fn create(app: Arc<App>, context: Context, request: JobCreate) -> Result<Job, Problem> {
    Ok(app.job_create(context.grant()?, request).await?)
}

async fn get(app: Arc<App>, context: Context, request: JobGet) -> Result<Job, Problem> {
    Ok(app.job_get(context.grant()?, request.job_id).await?)
}

async fn list(app: Arc<App>, context: Context, request: JobList) -> Result<JobPage, Problem> {
    Ok(app.job_list(context.grant()?, &request).await?)
}

async fn edit(app: Arc<App>, context: Context, request: JobEdit) -> Result<Job, Problem> {
    Ok(app.job_edit(context.grant()?, request).await?)
}

async fn delete(
    app: Arc<App>,
    context: Context,
    request: JobDelete,
) -> Result<JobDeleted, Problem> {
    Ok(app.job_delete(context.grant()?, &request).await?)
}

async fn execute(
    app: Arc<App>,
    context: Context,
    request: JobExecute,
) -> Result<Execution, Problem> {
    Ok(app.job_execute(context.grant()?, request).await?)
}

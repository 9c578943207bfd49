//! What workers say. Their pool is the token of the subject, which permissions fix.

use std::sync::Arc;

use bus::{BusError, Caller, Context, Service};
use contract::action::Action;
use contract::run::{
    RunAct, RunBegin, RunClaim, RunClaimed, RunEnd, RunEnded, RunFinish, RunFinished, RunLease,
    RunLog, RunLogged, RunRenew,
};
use contract::{Problem, ProblemKind};

use crate::app::App;

/// Answers `run.begin`, `.renew`, `.claim`, `.finish`, `.log`, `.act` and `.end`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| begin(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| renew(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| claim(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| finish(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| log(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| act(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| end(this.clone(), context, request))
        .await
}

/// The pool of who asks.
fn pool(context: &Context) -> Result<&str, Problem> {
    match &context.caller {
        Caller::Service(name) => contract::work::pool_of(name),
        Caller::Gateway => None,
    }
    .ok_or_else(|| Problem::new(ProblemKind::Forbidden, "only workers may ask this"))
}

async fn begin(app: Arc<App>, context: Context, request: RunBegin) -> Result<RunLease, Problem> {
    Ok(app.run_begin(pool(&context)?, request).await?)
}

async fn renew(app: Arc<App>, context: Context, request: RunRenew) -> Result<RunLease, Problem> {
    Ok(app.run_renew(pool(&context)?, request).await?)
}

async fn claim(app: Arc<App>, context: Context, request: RunClaim) -> Result<RunClaimed, Problem> {
    Ok(app.run_claim(pool(&context)?, request).await?)
}

async fn finish(
    app: Arc<App>,
    context: Context,
    request: RunFinish,
) -> Result<RunFinished, Problem> {
    pool(&context)?;
    Ok(app.run_finish(request).await?)
}

async fn log(app: Arc<App>, context: Context, request: RunLog) -> Result<RunLogged, Problem> {
    pool(&context)?;
    Ok(app.run_log(request).await?)
}

async fn act(app: Arc<App>, context: Context, request: RunAct) -> Result<Action, Problem> {
    Ok(app.run_act(pool(&context)?, request).await?)
}

async fn end(app: Arc<App>, context: Context, request: RunEnd) -> Result<RunEnded, Problem> {
    Ok(app.run_end(pool(&context)?, &request).await?)
}

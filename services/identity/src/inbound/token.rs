//! `token.list`, `token.get`, `token.create`, `token.revoke`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    Done, EnrollmentToken, EnrollmentTokenCreate, EnrollmentTokenCreated, EnrollmentTokenGet,
    EnrollmentTokenList, EnrollmentTokenPage, EnrollmentTokenRevoke,
};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, list)).await?;
    service.answer(with(app, get)).await?;
    service.answer(with(app, create)).await?;
    service.answer(with(app, revoke)).await
}

async fn list(
    app: Arc<App>,
    context: Context,
    request: EnrollmentTokenList,
) -> Result<EnrollmentTokenPage, Problem> {
    Ok(app.token_list(context.grant()?, &request).await?)
}

async fn get(
    app: Arc<App>,
    context: Context,
    request: EnrollmentTokenGet,
) -> Result<EnrollmentToken, Problem> {
    Ok(app.token_get(context.grant()?, &request).await?)
}

async fn create(
    app: Arc<App>,
    context: Context,
    request: EnrollmentTokenCreate,
) -> Result<EnrollmentTokenCreated, Problem> {
    Ok(app.token_create(context.grant()?, request).await?)
}

async fn revoke(
    app: Arc<App>,
    context: Context,
    request: EnrollmentTokenRevoke,
) -> Result<Done, Problem> {
    Ok(app.token_revoke(context.grant()?, &request).await?)
}

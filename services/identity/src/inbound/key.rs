//! `key.list`, `key.get`, `key.create`, `key.edit`, `key.revoke`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyPage,
    ApiKeyRevoke, Done,
};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, list)).await?;
    service.answer(with(app, get)).await?;
    service.answer(with(app, create)).await?;
    service.answer(with(app, edit)).await?;
    service.answer(with(app, revoke)).await
}

async fn list(app: Arc<App>, context: Context, request: ApiKeyList) -> Result<ApiKeyPage, Problem> {
    Ok(app.key_list(context.grant()?, &request).await?)
}

async fn get(app: Arc<App>, context: Context, request: ApiKeyGet) -> Result<ApiKey, Problem> {
    Ok(app.key_get(context.grant()?, &request).await?)
}

async fn create(
    app: Arc<App>,
    context: Context,
    request: ApiKeyCreate,
) -> Result<ApiKeyCreated, Problem> {
    Ok(app.key_create(context.grant()?, request).await?)
}

async fn edit(app: Arc<App>, context: Context, request: ApiKeyEdit) -> Result<ApiKey, Problem> {
    Ok(app.key_edit(context.grant()?, &request).await?)
}

async fn revoke(app: Arc<App>, context: Context, request: ApiKeyRevoke) -> Result<Done, Problem> {
    Ok(app.key_revoke(context.grant()?, &request).await?)
}

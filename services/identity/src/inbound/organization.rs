//! `organization.list`, `organization.get`, `organization.create`, `organization.edit`, `organization.close`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    Organization, OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet,
    OrganizationList, OrganizationPage,
};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, list)).await?;
    service.answer(with(app, get)).await?;
    service.answer(with(app, create)).await?;
    service.answer(with(app, edit)).await?;
    service.answer(with(app, close)).await
}

async fn list(
    app: Arc<App>,
    context: Context,
    request: OrganizationList,
) -> Result<OrganizationPage, Problem> {
    Ok(app.organization_list(context.grant()?, &request).await?)
}

async fn get(
    app: Arc<App>,
    context: Context,
    request: OrganizationGet,
) -> Result<Organization, Problem> {
    Ok(app.organization_get(context.grant()?, &request).await?)
}

async fn create(
    app: Arc<App>,
    context: Context,
    request: OrganizationCreate,
) -> Result<Organization, Problem> {
    Ok(app.organization_create(context.grant()?, request).await?)
}

async fn edit(
    app: Arc<App>,
    context: Context,
    request: OrganizationEdit,
) -> Result<Organization, Problem> {
    Ok(app.organization_edit(context.grant()?, request).await?)
}

async fn close(
    app: Arc<App>,
    context: Context,
    request: OrganizationClose,
) -> Result<Organization, Problem> {
    Ok(app.organization_close(context.grant()?, &request).await?)
}

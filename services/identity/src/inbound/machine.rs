//! `machine.edit`, `machine.label`, `machine.revoke`, `machine.release`, `machine.quarantine`, `machine.changes`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    Done, MachineChanges, MachineChangesPage, MachineEdit, MachineEdited, MachineLabel,
    MachineLabelled, MachineQuarantine, MachineRelease, MachineRevoke,
};

use crate::app::App;
use crate::inbound::{require_caller, with};

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, edit)).await?;
    service.answer(with(app, label)).await?;
    service.answer(with(app, revoke)).await?;
    service.answer(with(app, release)).await?;
    service.answer(with(app, quarantine)).await?;
    service.answer(with(app, changes)).await
}

async fn edit(
    app: Arc<App>,
    context: Context,
    request: MachineEdit,
) -> Result<MachineEdited, Problem> {
    Ok(app.machine_edit(context.grant()?, request).await?)
}

async fn label(
    app: Arc<App>,
    context: Context,
    request: MachineLabel,
) -> Result<MachineLabelled, Problem> {
    Ok(app.machine_label(context.grant()?, request).await?)
}

async fn revoke(app: Arc<App>, context: Context, request: MachineRevoke) -> Result<Done, Problem> {
    Ok(app
        .machine_revoke(context.grant()?, request.machine_id)
        .await?)
}

async fn release(
    app: Arc<App>,
    context: Context,
    request: MachineRelease,
) -> Result<Done, Problem> {
    Ok(app.machine_release(context.grant()?, &request).await?)
}

async fn quarantine(
    app: Arc<App>,
    context: Context,
    request: MachineQuarantine,
) -> Result<Done, Problem> {
    require_caller(&context, &["action"])?;
    Ok(app.machine_quarantine(&request).await?)
}

async fn changes(
    app: Arc<App>,
    context: Context,
    request: MachineChanges,
) -> Result<MachineChangesPage, Problem> {
    require_caller(&context, &["action", "metrics"])?;
    Ok(app.machine_changes(&request).await?)
}

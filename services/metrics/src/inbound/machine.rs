//! `machine.list` and `machine.get` for users, `machine.select` for services that act for them.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::metrics::{MachineGet, MachineList, MachineSelect};

use crate::app::App;

/// Answers them.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app_of_list = app.clone();
    service
        .answer(move |context: Context, request: MachineList| {
            let app = app_of_list.clone();
            async move { Ok(app.machine_list(context.grant()?, request).await?) }
        })
        .await?;
    let app_of_select = app.clone();
    service
        .answer(move |context: Context, request: MachineSelect| {
            let app = app_of_select.clone();
            async move { Ok(app.machine_select(context.grant()?, &request).await?) }
        })
        .await?;
    let app = app.clone();
    service
        .answer(move |context: Context, request: MachineGet| {
            let app = app.clone();
            async move { Ok(app.machine_get(context.grant()?, &request).await?) }
        })
        .await
}

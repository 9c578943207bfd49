//! What users say of an organisation's executions as a whole.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::job::{Settings, SettingsEdit, SettingsGet};

use crate::app::App;

/// Answers `settings.get` and `.edit`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| get(this.clone(), context, request))
        .await?;
    let this = app.clone();
    service
        .answer(move |context, request| edit(this.clone(), context, request))
        .await
}

async fn get(
    app: Arc<App>,
    context: Context,
    SettingsGet {}: SettingsGet,
) -> Result<Settings, Problem> {
    Ok(app.settings_get(context.grant()?).await?)
}

async fn edit(app: Arc<App>, context: Context, request: SettingsEdit) -> Result<Settings, Problem> {
    Ok(app.settings_edit(context.grant()?, &request).await?)
}

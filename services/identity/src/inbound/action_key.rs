//! `actionkeys.put` and `actionkeys.get`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{ActionKeyFingerprints, ActionKeysGet, ActionKeysPut, Deployment};

use crate::app::App;
use crate::inbound::{require_caller, with};

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, put)).await?;
    service.answer(with(app, get)).await
}

async fn get(
    app: Arc<App>,
    _: Context,
    _: ActionKeysGet,
) -> Result<ActionKeyFingerprints, Problem> {
    Ok(app.action_keys_get().await?)
}

async fn put(
    app: Arc<App>,
    context: Context,
    request: ActionKeysPut,
) -> Result<Deployment, Problem> {
    require_caller(&context, &["action"])?;
    Ok(app.action_keys_put(&request).await?)
}

//! `legacy.bind`, asked by the services that machines over HTTP speak to, with the grant of the machine's key.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::legacy::{LegacyBind, LegacyBound};

use crate::app::App;
use crate::inbound::{require_caller, with};

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, bind)).await
}

async fn bind(
    app: Arc<App>,
    context: Context,
    request: LegacyBind,
) -> Result<LegacyBound, Problem> {
    require_caller(&context, &["action", "metrics"])?;
    Ok(app.legacy_bind(context.grant()?, &request).await?)
}

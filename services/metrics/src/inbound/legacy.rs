//! `legacy.report` and `legacy.fleet`, for agents and scripts of Dash-Fleet.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::legacy::{LegacyFleet, LegacyReport};

use crate::app::App;

/// Answers them.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app_of_report = app.clone();
    service
        .answer(move |context: Context, request: LegacyReport| {
            let app = app_of_report.clone();
            async move {
                let (grant, token) = (context.grant()?, context.grant_token());
                Ok(app.legacy_report(grant, token, request).await?)
            }
        })
        .await?;
    let app = app.clone();
    service
        .answer(move |context: Context, request: LegacyFleet| {
            let app = app.clone();
            async move { Ok(app.legacy_fleet(context.grant()?, &request).await?) }
        })
        .await
}

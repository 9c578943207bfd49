//! `presence.history` and `availability.get`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::metrics::{AvailabilityGet, PresenceHistory};

use crate::app::App;

/// Answers them.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app_of_history = app.clone();
    service
        .answer(move |context: Context, request: PresenceHistory| {
            let app = app_of_history.clone();
            async move { Ok(app.presence_history(context.grant()?, request).await?) }
        })
        .await?;
    let app = app.clone();
    service
        .answer(move |context: Context, request: AvailabilityGet| {
            let app = app.clone();
            async move { Ok(app.availability_get(context.grant()?, &request).await?) }
        })
        .await
}

//! What comes over the bus: decoded by the bus library, handed to one method of the app, encoded again.

pub mod advisory;
pub mod event;
pub mod history;
pub mod inventory;
pub mod legacy;
pub mod machine;
pub mod presence;
pub mod sample;

use std::sync::Arc;

use bus::{BusError, Service};

use crate::app::App;

/// Answers every call and every word of agents that is this service's.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    machine::answer(service, app).await?;
    sample::answer(service, app).await?;
    inventory::answer(service, app).await?;
    history::answer(service, app).await?;
    legacy::answer(service, app).await?;
    presence::answer(service, app).await
}

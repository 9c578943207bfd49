//! What is asked of the action service: [`action`] by users, [`report`] and [`sync`] by agents, [`legacy`] by
//! those over HTTP, [`audit`] by identity. Handlers are
//! boring: unwrap, call one method, wrap.

use std::sync::Arc;

use bus::{BusError, Service};

use crate::app::App;

pub mod action;
pub mod audit;
pub mod legacy;
pub mod report;
pub mod sync;

/// Answers everything.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    action::serve(service, app).await?;
    report::serve(service, app).await?;
    sync::serve(service, app).await?;
    legacy::serve(service, app).await?;
    audit::serve(service, app).await
}

//! What is asked of the scheduler: [`job`], [`execution`] and [`settings`] by users, [`run`] by workers. Handlers are boring: unwrap,
//! call one method, wrap.

use std::sync::Arc;

use bus::{BusError, Service};

use crate::app::App;

pub mod execution;
pub mod job;
pub mod run;
pub mod settings;

/// Answers everything.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    job::serve(service, app).await?;
    execution::serve(service, app).await?;
    settings::serve(service, app).await?;
    run::serve(service, app).await
}

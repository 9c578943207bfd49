//! `enrollment.challenge` and `enrollment.complete`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{Challenge, Challenged, Enroll, Enrolled};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, challenge)).await?;
    service.answer(with(app, complete)).await
}

async fn challenge(app: Arc<App>, _: Context, _: Challenge) -> Result<Challenged, Problem> {
    Ok(app.challenge()?)
}

async fn complete(app: Arc<App>, _: Context, request: Enroll) -> Result<Enrolled, Problem> {
    Ok(app.enroll(&request).await?)
}

//! `enrollment.challenge`, `enrollment.complete` and `enrollment.standing`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{Challenge, Challenged, Enroll, Enrolled, Standing, StandingGet};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, challenge)).await?;
    service.answer(with(app, complete)).await?;
    service.answer(with(app, standing)).await
}

async fn challenge(app: Arc<App>, _: Context, _: Challenge) -> Result<Challenged, Problem> {
    Ok(app.challenge().await?)
}

async fn complete(app: Arc<App>, context: Context, request: Enroll) -> Result<Enrolled, Problem> {
    Ok(app.enroll(context.origin(), &request).await?)
}

async fn standing(app: Arc<App>, _: Context, request: StandingGet) -> Result<Standing, Problem> {
    Ok(app.standing(&request).await?)
}

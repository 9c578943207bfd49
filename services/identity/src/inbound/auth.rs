//! `auth.login`, `auth.refresh`, `auth.logout`, `auth.me`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{Done, Login, Logout, Me, Principal, Refresh, Tokens};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, login)).await?;
    service.answer(with(app, refresh)).await?;
    service.answer(with(app, logout)).await?;
    service.answer(with(app, me)).await
}

async fn login(app: Arc<App>, context: Context, request: Login) -> Result<Tokens, Problem> {
    Ok(app.login(context.origin(), request).await?)
}

async fn refresh(app: Arc<App>, context: Context, request: Refresh) -> Result<Tokens, Problem> {
    Ok(app.refresh(context.origin(), &request).await?)
}

async fn logout(app: Arc<App>, context: Context, _: Logout) -> Result<Done, Problem> {
    Ok(app.logout(context.grant()?).await?)
}

async fn me(app: Arc<App>, context: Context, _: Me) -> Result<Principal, Problem> {
    Ok(app.me(context.grant()?).await?)
}

//! `auth.login`, `auth.refresh`, `auth.logout`, `auth.me`, `auth.switch`, `auth.sessions`, `auth.revoke`, `auth.password`,
//! `auth.forgot`, `auth.reset`, `auth.accept`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    Done, InvitationAccept, Login, Logout, Me, PasswordChange, PasswordForgot, PasswordReset,
    Principal, Refresh, SessionList, SessionPage, SessionRevoke, Switch, Tokens,
};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, login)).await?;
    service.answer(with(app, refresh)).await?;
    service.answer(with(app, logout)).await?;
    service.answer(with(app, me)).await?;
    service.answer(with(app, switch)).await?;
    service.answer(with(app, sessions)).await?;
    service.answer(with(app, revoke)).await?;
    service.answer(with(app, password)).await?;
    service.answer(with(app, forgot)).await?;
    service.answer(with(app, reset)).await?;
    service.answer(with(app, accept)).await
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

async fn switch(app: Arc<App>, context: Context, request: Switch) -> Result<Tokens, Problem> {
    Ok(app.switch(context.grant()?, &request).await?)
}

async fn sessions(
    app: Arc<App>,
    context: Context,
    request: SessionList,
) -> Result<SessionPage, Problem> {
    Ok(app.session_list(context.grant()?, &request).await?)
}

async fn revoke(app: Arc<App>, context: Context, request: SessionRevoke) -> Result<Done, Problem> {
    Ok(app.session_revoke(context.grant()?, &request).await?)
}

async fn password(
    app: Arc<App>,
    context: Context,
    request: PasswordChange,
) -> Result<Done, Problem> {
    Ok(app.password_change(context.grant()?, request).await?)
}

async fn forgot(app: Arc<App>, _: Context, request: PasswordForgot) -> Result<Done, Problem> {
    Ok(app.password_forgot(&request).await?)
}

async fn reset(app: Arc<App>, context: Context, request: PasswordReset) -> Result<Done, Problem> {
    Ok(app.password_reset(context.origin(), request).await?)
}

async fn accept(
    app: Arc<App>,
    context: Context,
    request: InvitationAccept,
) -> Result<Tokens, Problem> {
    Ok(app.invitation_accept(context.origin(), request).await?)
}

//! `grant.exchange`, `principal.grant` and `jwks.get`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::grant::Jwks;
use contract::identity::{Exchange, Exchanged, JwksGet, PrincipalGrant, PrincipalGranted};

use crate::app::App;
use crate::inbound::{require_caller, with};

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, exchange)).await?;
    service.answer(with(app, principal)).await?;
    service.answer(with(app, jwks)).await
}

async fn exchange(
    app: Arc<App>,
    context: Context,
    request: Exchange,
) -> Result<Exchanged, Problem> {
    Ok(app.exchange(context.origin(), &request).await?)
}

async fn principal(
    app: Arc<App>,
    context: Context,
    request: PrincipalGrant,
) -> Result<PrincipalGranted, Problem> {
    require_caller(&context, &["scheduler"])?;
    Ok(app.principal_grant(&request).await?)
}

async fn jwks(app: Arc<App>, _: Context, _: JwksGet) -> Result<Jwks, Problem> {
    Ok(app.signer.jwks())
}

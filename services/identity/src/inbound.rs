//! What identity is asked: one file per noun, each handler decodes, calls one method of the app, encodes.

pub mod action_key;
pub mod audit;
pub mod auth;
pub mod callout;
pub mod doorbell;
pub mod enrollment;
pub mod grant;
pub mod key;
pub mod legacy;
pub mod machine;
pub mod member;
pub mod organization;
pub mod token;

use std::sync::Arc;

use bus::{Bus, BusError, Caller, Context, Service};
use contract::{Problem, ProblemKind};

use crate::app::App;

/// Answers every call of `contract::identity`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(bus: &Bus, app: &Arc<App>) -> Result<Service, BusError> {
    let service = Service::start(bus, contract::identity::SERVICE, Some(app.verifier()))
        .await?
        .noting(&app.denials);
    auth::answer(&service, app).await?;
    grant::answer(&service, app).await?;
    organization::answer(&service, app).await?;
    member::answer(&service, app).await?;
    key::answer(&service, app).await?;
    token::answer(&service, app).await?;
    enrollment::answer(&service, app).await?;
    machine::answer(&service, app).await?;
    legacy::answer(&service, app).await?;
    action_key::answer(&service, app).await?;
    audit::answer(&service, app).await?;
    Ok(service)
}

/// A handler that has the app.
fn with<C, H, F>(
    app: &Arc<App>,
    handler: H,
) -> impl Fn(Context, C) -> F + Clone + Send + Sync + 'static
where
    H: Fn(Arc<App>, Context, C) -> F + Clone + Send + Sync + 'static,
    C: 'static,
    F: 'static,
{
    let app = app.clone();
    move |context, request| handler(app.clone(), context, request)
}

/// Refuses unless one of these services asks. The server's permissions fix the caller's name.
fn require_caller(context: &Context, services: &[&str]) -> Result<(), Problem> {
    match &context.caller {
        Caller::Service(name) if services.contains(&name.as_str()) => Ok(()),
        _ => Err(Problem::new(
            ProblemKind::Forbidden,
            "this service may not ask that",
        )),
    }
}

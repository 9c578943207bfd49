//! What identity is asked: one file per noun, each handler decodes, calls one method of the app, encodes.

pub mod action_key;
pub mod auth;
pub mod callout;
pub mod doorbell;
pub mod enrollment;
pub mod grant;
pub mod machine;

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Caller, Context, Service};
use contract::{Problem, ProblemKind};
use futures::StreamExt;

use crate::app::App;

/// How long a message to oneself may take before another is sent.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// Answers every call of `contract::identity`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(bus: &Bus, app: &Arc<App>) -> Result<Service, BusError> {
    let service = Service::start(bus, contract::identity::SERVICE, Some(app.verifier())).await?;
    auth::answer(&service, app).await?;
    grant::answer(&service, app).await?;
    enrollment::answer(&service, app).await?;
    machine::answer(&service, app).await?;
    action_key::answer(&service, app).await?;
    Ok(service)
}

/// Returns once the server has taken every subscription made so far: on one connection, a message to oneself comes
/// after them. While the bus is away it waits.
pub async fn settled(bus: &Bus) {
    loop {
        match tokio::time::timeout(SETTLE_PATIENCE, message_to_oneself(bus)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the bus is not settled");
                tokio::time::sleep(SETTLE_PATIENCE).await;
            }
            Err(_) => {}
        }
    }
}

async fn message_to_oneself(bus: &Bus) -> Result<(), BusError> {
    let inbox = contract::subject::service_inbox(contract::identity::SERVICE);
    let subject = format!("{inbox}.{}", uuid::Uuid::new_v4().simple());
    let mut echo = bus.subscribe(&subject).await?;
    bus.publish(subject, Vec::new()).await?;
    echo.next().await;
    Ok(())
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

//! The admin endpoint: `/healthz` (the process lives), `/readyz` (it can do its work), `/metrics` (Prometheus text).

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::Data;
use poem::{EndpointExt, Response, Route, Server, get, handler};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::sync::watch;

use crate::shutdown::Shutdown;

/// How often it is looked up what is missing.
const POLL: Duration = Duration::from_secs(1);

/// Says why the process cannot do its work; `None` when it can.
pub type Readiness = Arc<dyn Fn() -> Option<String> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    registry: Registry,
    shutdown: Shutdown,
}

#[handler]
fn healthz() -> &'static str {
    "ok\n"
}

#[handler]
fn readyz(Data(admin): Data<&Admin>) -> Response {
    let reason = if admin.shutdown.has_begun() {
        Some("shutting down".to_owned())
    } else {
        (admin.readiness)()
    };
    match reason {
        None => Response::builder().body("ready\n"),
        Some(reason) => Response::builder()
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .body(format!("{reason}\n")),
    }
}

#[handler]
fn metrics(Data(admin): Data<&Admin>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&admin.registry.gather(), &mut text) {
        Ok(()) => Response::builder()
            .content_type(encoder.format_type())
            .body(text),
        Err(error) => Response::builder()
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .body(error.to_string()),
    }
}

/// Says what is missing as it was when it was last looked up, until the shutdown begins.
pub fn watched<F>(shutdown: &Shutdown, missing: impl Fn() -> F + Send + 'static) -> Readiness
where
    F: Future<Output = Option<String>> + Send + 'static,
{
    let (sender, receiver) = watch::channel(Some("starting".to_owned()));
    shutdown.spawn_until_begun(look(sender, missing));
    Arc::new(move || receiver.borrow().clone())
}

async fn look<F>(sender: watch::Sender<Option<String>>, missing: impl Fn() -> F)
where
    F: Future<Output = Option<String>>,
{
    loop {
        let found = missing().await;
        sender.send_replace(found);
        tokio::time::sleep(POLL).await;
    }
}

/// Serves the admin endpoint until the shutdown begins.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: &str,
    registry: Registry,
    readiness: Readiness,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    use poem::listener::Listener;
    let acceptor = TcpListener::bind(address.to_owned())
        .into_acceptor()
        .await?;
    let admin = Admin {
        readiness,
        registry,
        shutdown: shutdown.clone(),
    };
    let app = Route::new()
        .at("/healthz", get(healthz))
        .at("/readyz", get(readyz))
        .at("/metrics", get(metrics))
        .data(admin);
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let end = async move { stop.begun().await };
        if let Err(error) = Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(app, end, None)
            .await
        {
            tracing::error!(%error, "the admin endpoint ended");
        }
    });
    Ok(())
}

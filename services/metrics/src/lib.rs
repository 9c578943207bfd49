//! This crate is the metrics service: inventory, labels, presence, samples, health.
//!
//! Rooms: [`config`], [`inbound`] what comes over the bus, [`app`] what is decided, [`store`] its SQL, [`error`],
//! [`metrics`] what is counted. A sample goes `inbound::sample` → `app::sample` → `store::sample`, a connection
//! `inbound::advisory` → `app::presence` → `store::session`.

pub mod app;
pub mod config;
pub mod error;
pub mod inbound;
pub mod metrics;
pub mod store;
pub mod timing;

use std::sync::Arc;

use bus::system::SystemBus;
use bus::{GrantVerifier, Service};
use contract::metrics::SERVICE;
use owner::Outboxes;
use runtime::{Shutdown, admin};

pub use app::App;
pub use config::Config;
pub use error::MetricsError;
pub use timing::Timing;

/// Runs the service until the shutdown: it starts while bus and database are away, and becomes ready by itself.
///
/// # Errors
/// [`MetricsError`] when the configuration cannot be used or the admin address is taken.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), MetricsError> {
    let counts = Arc::new(metrics::Metrics::new()?);
    let pools = owner::pools(SERVICE, &config.database)?;
    let bus = owner::bus(SERVICE, &config.service, &config.seed).await?;
    let system = owner::bus(SERVICE, &config.service, &config.system_seed).await?;
    let system = SystemBus::new(system);
    let outboxes = Outboxes::new(SERVICE, &bus, &pools);

    let (app, committers) = App::new(
        pools.clone(),
        bus.clone(),
        system.clone(),
        outboxes.relay.clone(),
        counts.clone(),
        config.timing,
    );
    shutdown.spawn(committers);
    let readiness = app.readiness.clone();
    admin::serve(
        &config.service.admin_addr,
        counts.registry().clone(),
        Arc::new(move || readiness.missing()),
        &shutdown,
    )
    .await?;

    shutdown.spawn_until_begun(outboxes.clone().events_run());
    shutdown.spawn_until_begun(outboxes.clone().audit_run());
    shutdown.spawn_until_begun(outboxes.clone().denials_run());
    shutdown.spawn_until_begun(app::maintenance::run(app.clone()));
    shutdown.spawn_until_begun(app::mirror::run(app.clone()));
    shutdown.spawn_until_begun(app::reconciliation::run(app.clone()));
    shutdown.spawn_until_begun(app::watch::run(app.clone()));
    shutdown.spawn_until_begun(app::readiness::run(app.clone()));
    shutdown.spawn_until_begun(inbound::event::run(app.clone()));
    shutdown.spawn_until_begun(inbound::advisory::run(app.clone()));

    let verifier = GrantVerifier::over(&bus, SERVICE);
    let service = Service::start(&bus, SERVICE, Some(verifier)).await?;
    let service = service.noting(&outboxes.denials);
    Box::pin(inbound::answer(&service, &app)).await?;
    let (subscribed, readiness) = (bus.clone(), app.readiness.clone());
    shutdown.spawn_until_begun(async move {
        subscribed.settled().await;
        readiness.answering();
    });
    tracing::info!(admin = config.service.admin_addr, "metrics runs");

    shutdown.begun().await;
    let last = async move {
        // The last who hands anything to the committers; then they end.
        drop(app);
        outboxes.denials_flush().await;
    };
    let close = async {
        tokio::join!(system.bus().drain(), bus.drain(), pools.close());
    };
    let limit = config.service.shutdown;
    shutdown.end(limit, service.stop(), last, close).await;
    Ok(())
}

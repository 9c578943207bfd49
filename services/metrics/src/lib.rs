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
use bus::{Bus, BusConfig, GrantVerifier, Service};
use contract::metrics::SERVICE;
use database::{Pools, Relay};
use runtime::Shutdown;

pub use app::App;
pub use config::Config;
pub use error::MetricsError;
pub use timing::Timing;

/// Runs the service as a process: telemetry, signals, [`run`].
///
/// # Errors
/// [`MetricsError`].
pub async fn main_run(config: Config) -> Result<(), MetricsError> {
    runtime::telemetry::begin(SERVICE, &config.service.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let ended = run(config, shutdown).await;
    runtime::telemetry::end().await;
    ended
}

/// Runs the service until the shutdown: it starts while bus and database are away, and becomes ready by itself.
///
/// # Errors
/// [`MetricsError`] when the configuration cannot be used or the admin address is taken.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), MetricsError> {
    let counts = Arc::new(metrics::Metrics::new()?);
    let database = &config.database;
    let pools = Pools::connect(
        SERVICE,
        &database.url,
        &database.system_url,
        database.connections,
    )?;
    let connect = |seed: &str| {
        Bus::connect(BusConfig::service(
            config.service.nats_urls.clone(),
            config.service.nats_ca.clone(),
            seed.to_owned(),
            SERVICE,
        ))
    };
    let bus = connect(&config.seed).await?;
    let system = SystemBus::new(connect(&config.system_seed).await?);
    let relay = Relay::new();

    let (app, committers) = App::new(
        pools.clone(),
        bus.clone(),
        system.clone(),
        relay.clone(),
        counts.clone(),
        config.timing,
    );
    shutdown.spawn(committers);
    let readiness = app.readiness.clone();
    runtime::admin::serve(
        &config.service.admin_addr,
        counts.registry().clone(),
        Arc::new(move || readiness.missing()),
        &shutdown,
    )
    .await?;

    // Whoever ends with the shutdown, at any point: what they leave undone is done by another, or after the restart.
    let publisher = bus.clone();
    let publish = move |row: database::OutboxRow| {
        let publisher = publisher.clone();
        async move {
            publisher
                .publish_event(&app::event(row))
                .await
                .map_err(|error| error.to_string())
        }
    };
    let until_shutdown = |task: futures::future::BoxFuture<'static, ()>| {
        let end = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = end.begun() => {}
                () = task => {}
            }
        });
    };
    until_shutdown(Box::pin(relay.run(
        pools.system().clone(),
        SERVICE,
        publish,
    )));
    let handing = app.clone();
    let hand = move |rows| {
        let app = handing.clone();
        async move { app.audit_hand(rows).await }
    };
    let relaying = app.audit_relay.clone();
    until_shutdown(Box::pin(relaying.run(
        pools.system().clone(),
        SERVICE,
        hand,
    )));
    let noting = app.clone();
    let note = move |entries| {
        let app = noting.clone();
        async move { app.denials_write(entries).await }
    };
    until_shutdown(Box::pin(app.denials.clone().run(note)));
    until_shutdown(Box::pin(app::maintenance::run(app.clone())));
    until_shutdown(Box::pin(app::mirror::run(app.clone())));
    until_shutdown(Box::pin(app::reconciliation::run(app.clone())));
    until_shutdown(Box::pin(app::watch::run(app.clone())));
    until_shutdown(Box::pin(app::readiness::run(app.clone())));
    until_shutdown(Box::pin(inbound::event::run(app.clone())));
    until_shutdown(Box::pin(inbound::advisory::run(app.clone())));

    let service = Service::start(&bus, SERVICE, Some(GrantVerifier::over(&bus, SERVICE)))
        .await?
        .noting(&app.denials);
    inbound::answer(&service, &app).await?;
    let (subscribed, readiness) = (bus.clone(), app.readiness.clone());
    until_shutdown(Box::pin(async move {
        subscribed.settled().await;
        readiness.answering();
    }));
    tracing::info!(admin = config.service.admin_addr, "metrics runs");

    shutdown.begun().await;
    let stop = async move {
        service.stop().await;
        app.denials
            .flush(|entries| app.denials_write(entries))
            .await;
        // The last who hands anything to the committers; then they end.
        drop(app);
    };
    let close = async {
        tokio::join!(system.bus().drain(), bus.drain());
        pools.close().await;
    };
    shutdown.end(config.service.shutdown, stop, close).await;
    Ok(())
}

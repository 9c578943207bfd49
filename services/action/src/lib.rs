//! The action service: what machines are told to do, once each, and what became of it (DESIGN §5).
//!
//! Rooms: [`config`], [`inbound`] what is asked (decode → app → encode), [`app`] decisions and transactions,
//! [`store`] SQL, [`error`], [`metrics`]. This file wires them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusConfig, Denials, GrantVerifier, Service};
use database::{AuditRelay, GroupCommit, Pools, Relay};
use runtime::Shutdown;

pub mod app;
pub mod config;
pub mod error;
pub mod inbound;
pub mod metrics;
pub mod store;

pub use config::Config;
pub use error::ActionError;

use app::App;
use app::signer::Signer;

/// How long the last refused attempts may take to be written down.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How often readiness is looked up.
const READINESS_POLL: Duration = Duration::from_secs(1);

/// The service as a process: telemetry, signals, [`run`].
///
/// # Errors
/// [`ActionError`] when it cannot start.
pub async fn main_run(config: Config) -> Result<(), ActionError> {
    runtime::telemetry::begin("action", &config.service.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let ended = run(config, shutdown).await;
    runtime::telemetry::end().await;
    ended
}

/// Runs the service until the shutdown has begun and what was under way has ended.
///
/// # Errors
/// [`ActionError`] when it cannot start. A bus or database that is away is waited for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ActionError> {
    let service = &config.service;
    let seed = runtime::keys::read_seed(&service.keys, "nats.nk")?;
    let signer = Signer::read(&service.keys)?;
    let bus = Bus::connect(BusConfig::service(
        service.nats_urls.clone(),
        service.nats_ca.clone(),
        seed,
        contract::action::SERVICE,
    ))
    .await?;
    let pools = Pools::connect(
        "action",
        &config.database.url,
        &config.database.system_url,
        config.database.connections,
    )?;
    let metrics = metrics::Metrics::new()?;
    let (reports, committer) = GroupCommit::start(&pools, store::report::Reports);
    let committing = tokio::spawn(committer);
    let app = Arc::new(App {
        bus: bus.clone(),
        pools: pools.clone(),
        signer,
        reports,
        relay: Relay::new(),
        audit_relay: AuditRelay::new(),
        denials: Denials::new(),
        witness: app::audit::witness::Witness::default(),
        metrics: metrics.clone(),
        mirror: app::mirror::Doorbell::default(),
        ringing: app::fan_out::Turns::default(),
        answering: AtomicBool::new(false),
    });

    let readiness = readiness(&app, &shutdown);
    runtime::admin::serve(
        &service.admin_addr,
        metrics.registry(),
        readiness,
        &shutdown,
    )
    .await?;
    let mut background = start_background(&app);
    let (every, days) = (config.countersign_every, config.audit_retention_days);
    background.push(tokio::spawn(app::audit::countersign(
        app.clone(),
        every,
        days,
    )));

    let endpoints = Service::start(
        &bus,
        contract::action::SERVICE,
        Some(GrantVerifier::over(&bus, contract::action::SERVICE)),
    )
    .await?
    .noting(&app.denials);
    inbound::serve(&endpoints, &app).await?;
    let settling = app.clone();
    background.push(tokio::spawn(async move {
        settling.bus.settled().await;
        settling.answering.store(true, Ordering::Relaxed);
    }));

    shutdown.begun().await;
    // First stop hearing and answer what was heard; then nothing hands in reports any more.
    if tokio::time::timeout(service.shutdown, endpoints.stop())
        .await
        .is_err()
    {
        tracing::warn!("what was under way did not end in time");
    }
    for task in background {
        task.abort();
    }
    let noted = app.denials.flush(|entries| app.denials_write(entries));
    if tokio::time::timeout(FLUSH_MAX, noted).await.is_err() {
        tracing::warn!("the last refused attempts are not written down");
    }
    drop(app);
    committing.abort();
    bus.drain().await;
    shutdown.finish(service.shutdown).await;
    pools.close().await;
    Ok(())
}

fn start_background(app: &Arc<App>) -> Vec<tokio::task::JoinHandle<()>> {
    let publish = {
        let bus = app.bus.clone();
        move |row: database::OutboxRow| {
            let bus = bus.clone();
            async move {
                bus.publish_event(&app::event(row))
                    .await
                    .map_err(|error| error.to_string())
            }
        }
    };
    let handing = app.clone();
    let hand = move |rows| {
        let app = handing.clone();
        async move { app.audit_hand(rows).await }
    };
    let noting = app.clone();
    let note = move |entries| {
        let app = noting.clone();
        async move { app.denials_write(entries).await }
    };
    vec![
        tokio::spawn(app.denials.clone().run(note)),
        tokio::spawn(
            app.audit_relay
                .clone()
                .run(app.pools.system().clone(), "action", hand),
        ),
        tokio::spawn(
            app.relay
                .clone()
                .run(app.pools.system().clone(), "action", publish),
        ),
        tokio::spawn(app::signer::announce(app.clone())),
        tokio::spawn(app::mirror::follow(app.clone())),
        tokio::spawn(app::mirror::listen(app.clone())),
        tokio::spawn(app::deadline::tick(app.clone())),
        tokio::spawn(app::ring::tick(app.clone())),
        tokio::spawn(app::quarantine::report(app.clone())),
    ]
}

fn readiness(app: &Arc<App>, shutdown: &Shutdown) -> runtime::admin::Readiness {
    let (sender, receiver) = tokio::sync::watch::channel(Some("starting".to_owned()));
    let (watched, ending) = (app.clone(), shutdown.clone());
    shutdown.spawn(async move {
        while !ending.has_begun() {
            let missing = watched.missing().await;
            sender.send_replace(missing);
            tokio::select! {
                () = ending.begun() => {}
                () = tokio::time::sleep(READINESS_POLL) => {}
            }
        }
    });
    Arc::new(move || receiver.borrow().clone())
}

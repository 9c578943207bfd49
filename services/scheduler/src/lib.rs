//! The scheduler: jobs and their executions; the claim is the grant (DESIGN §6). Its README tells how.
//!
//! Rooms: [`config`], [`inbound`] what is asked (decode → app → encode), [`app`] decisions and transactions,
//! [`store`] SQL, [`error`], [`metrics`]. This file wires them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusConfig, Denials, GrantVerifier, Service};
use contract::job::SERVICE;
use database::{AuditRelay, GroupCommit, Pools, Relay};
use runtime::Shutdown;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub mod app;
pub mod config;
pub mod error;
pub mod inbound;
pub mod metrics;
pub mod store;

pub use config::Config;
pub use error::SchedulerError;

use app::App;
use app::bell::Doorbell;

/// How long the last refused attempts may take to be written down.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How often readiness is looked up.
const READINESS_POLL: Duration = Duration::from_secs(1);

/// The service as a process: telemetry, signals, [`run`].
///
/// # Errors
/// [`SchedulerError`] when it cannot start.
pub async fn main_run(config: Config) -> Result<(), SchedulerError> {
    runtime::telemetry::begin(SERVICE, &config.service.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let ended = run(config, shutdown).await;
    runtime::telemetry::end().await;
    ended
}

/// Runs the service until the shutdown has begun and what was under way has ended.
///
/// # Errors
/// [`SchedulerError`] when it cannot start. A bus or database that is away is waited for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), SchedulerError> {
    let service = &config.service;
    let seed = runtime::keys::read_seed(&service.keys, "nats.nk")?;
    let urls = service.nats_urls.clone();
    let bus = Bus::connect(BusConfig::service(
        urls,
        service.nats_ca.clone(),
        seed,
        SERVICE,
    ))
    .await?;
    let database = &config.database;
    let pools = Pools::connect(
        SERVICE,
        &database.url,
        &database.system_url,
        database.connections,
    )?;
    let metrics = metrics::Metrics::new()?;
    let (claims, claiming) = GroupCommit::start(&pools, store::claim::Claims);
    let (finishes, finishing) = GroupCommit::start(&pools, store::finish::Finishes);
    let committing = [tokio::spawn(claiming), tokio::spawn(finishing)];
    let replica = Uuid::now_v7();
    let app = Arc::new(App {
        bus: bus.clone(),
        pools: pools.clone(),
        worker_pools: config.pools.clone(),
        claims,
        finishes,
        bell: Doorbell::new(&bus, replica),
        relay: Relay::new(),
        audit_relay: AuditRelay::new(),
        denials: Denials::new(),
        metrics: metrics.clone(),
        timing: config.timing,
        replica,
        partitioned: AtomicBool::new(false),
        maintain: Notify::new(),
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
    let mut background = start_background(&app, config.retention_days);

    let verifier = GrantVerifier::over(&bus, SERVICE);
    let endpoints = Service::start(&bus, SERVICE, Some(verifier))
        .await?
        .noting(&app.denials);
    inbound::serve(&endpoints, &app).await?;
    let settling = app.clone();
    background.push(tokio::spawn(async move {
        settling.bus.settled().await;
        settling.answering.store(true, Ordering::Relaxed);
    }));

    shutdown.begun().await;
    // First stop hearing and answer what was heard; then nothing hands in anything any more.
    if tokio::time::timeout(service.shutdown, endpoints.stop())
        .await
        .is_err()
    {
        tracing::warn!("what was under way did not end in time");
    }
    for task in background {
        task.abort();
    }
    let last = async {
        if let Err(error) = store::lanes::dispatcher_resign(pools.system(), replica).await {
            tracing::debug!(%error, "another replica offers in a moment");
        }
        app.denials
            .flush(|entries| app.denials_write(entries))
            .await;
    };
    if tokio::time::timeout(FLUSH_MAX, last).await.is_err() {
        tracing::warn!("the last refused attempts are not written down");
    }
    drop(app);
    for task in committing {
        task.abort();
    }
    bus.drain().await;
    shutdown.finish(service.shutdown).await;
    pools.close().await;
    Ok(())
}

fn start_background(app: &Arc<App>, retention_days: i32) -> Vec<JoinHandle<()>> {
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
    let system = app.pools.system();
    let mut tasks = vec![
        tokio::spawn(app.denials.clone().run(note)),
        tokio::spawn(app.audit_relay.clone().run(system.clone(), SERVICE, hand)),
        tokio::spawn(app.relay.clone().run(system.clone(), SERVICE, publish)),
        tokio::spawn(app.bell.clone().listen()),
        tokio::spawn(app::reap::tick(app.clone())),
        tokio::spawn(app::due::tick(app.clone())),
        tokio::spawn(app::retention::run(app.clone(), retention_days)),
    ];
    for pool in &app.worker_pools {
        tasks.push(tokio::spawn(app::dispatch::run(app.clone(), pool.clone())));
    }
    tasks
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

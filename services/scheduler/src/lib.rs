//! The scheduler: jobs and their executions; the claim is the grant (DESIGN §6). Its README tells how.
//!
//! Rooms: [`config`], [`inbound`] what is asked (decode → app → encode), [`app`] decisions and transactions,
//! [`store`] SQL, [`error`], [`metrics`]. This file wires them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::{GrantVerifier, Service};
use contract::job::SERVICE;
use database::GroupCommit;
use owner::Outboxes;
use runtime::{Shutdown, admin};
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

/// Runs the service until the shutdown has begun and what was under way has ended.
///
/// # Errors
/// [`SchedulerError`] when it cannot start. A bus or database that is away is waited for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), SchedulerError> {
    let service = &config.service;
    let seed = runtime::keys::read_seed(&service.keys, "nats.nk")?;
    let bus = owner::bus(SERVICE, service, &seed).await?;
    let pools = owner::pools(SERVICE, &config.database)?;
    let outboxes = Outboxes::new(SERVICE, &bus, &pools);
    let metrics = metrics::Metrics::new()?;
    let (claims, claiming) = GroupCommit::start(&pools, store::claim::Claims);
    let (first_claims, first_claiming) = GroupCommit::start(&pools, store::claim::Claims);
    let (finishes, finishing) = GroupCommit::start(&pools, store::finish::Finishes);
    let committers = [
        tokio::spawn(claiming),
        tokio::spawn(first_claiming),
        tokio::spawn(finishing),
    ];
    let replica = Uuid::now_v7();
    let app = Arc::new(App {
        bus: bus.clone(),
        pools: pools.clone(),
        worker_pools: config.pools.clone(),
        claims,
        first_claims,
        finishes,
        bell: Doorbell::new(&bus, replica),
        relay: outboxes.relay.clone(),
        audit_relay: outboxes.audit_relay.clone(),
        metrics: metrics.clone(),
        timing: config.timing,
        replica,
        partitioned: AtomicBool::new(false),
        maintain: Notify::new(),
        answering: AtomicBool::new(false),
    });

    let watched = app.clone();
    let missing = move || {
        let app = watched.clone();
        async move { app.missing().await }
    };
    let readiness = admin::watched(&shutdown, missing);
    let address = &service.admin_addr;
    admin::serve(address, metrics.registry(), readiness, &shutdown).await?;
    let mut background = start_background(&app, &outboxes, config.retention_days);
    background.extend(committers);

    let verifier = GrantVerifier::over(&bus, SERVICE);
    let endpoints = Service::start(&bus, SERVICE, Some(verifier)).await?;
    let endpoints = endpoints.noting(&outboxes.denials);
    Box::pin(inbound::serve(&endpoints, &app)).await?;
    let settling = app.clone();
    background.push(tokio::spawn(async move {
        settling.bus.settled().await;
        settling.answering.store(true, Ordering::Relaxed);
    }));

    shutdown.begun().await;
    let last = async {
        // Needed until the last answer is given.
        background.iter().for_each(JoinHandle::abort);
        if let Err(error) = store::lanes::dispatcher_resign(pools.system(), replica).await {
            tracing::debug!(%error, "another replica offers in a moment");
        }
        outboxes.denials_flush().await;
    };
    let close = async {
        tokio::join!(bus.drain(), pools.close());
    };
    let limit = service.shutdown;
    shutdown.end(limit, endpoints.stop(), last, close).await;
    Ok(())
}

fn start_background(
    app: &Arc<App>,
    outboxes: &Outboxes,
    retention_days: i32,
) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![
        tokio::spawn(outboxes.clone().denials_run()),
        tokio::spawn(outboxes.clone().audit_run()),
        tokio::spawn(outboxes.clone().events_run()),
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

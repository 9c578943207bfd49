//! The action service: what machines are told to do, once each, and what became of it (DESIGN §5).
//!
//! Rooms: [`config`], [`inbound`] what is asked (decode → app → encode), [`app`] decisions and transactions,
//! [`store`] SQL, [`error`], [`metrics`]. This file wires them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::{GrantVerifier, Service};
use contract::action::SERVICE;
use database::GroupCommit;
use owner::Outboxes;
use runtime::{Shutdown, admin};
use tokio::task::JoinHandle;

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

/// Runs the service until the shutdown has begun and what was under way has ended.
///
/// # Errors
/// [`ActionError`] when it cannot start. A bus or database that is away is waited for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ActionError> {
    let service = &config.service;
    let seed = runtime::keys::read_seed(&service.keys, "nats.nk")?;
    let signer = Signer::read(&service.keys)?;
    let bus = owner::bus(SERVICE, service, &seed).await?;
    let pools = owner::pools(SERVICE, &config.database)?;
    let outboxes = Outboxes::new(SERVICE, &bus, &pools);
    let metrics = metrics::Metrics::new()?;
    let (reports, committer) = GroupCommit::start(&pools, store::report::Reports);
    let app = Arc::new(App {
        bus: bus.clone(),
        pools: pools.clone(),
        signer,
        reports,
        relay: outboxes.relay.clone(),
        audit_relay: outboxes.audit_relay.clone(),
        witness: app::audit::witness::Witness::default(),
        metrics: metrics.clone(),
        mirror: app::mirror::Doorbell::default(),
        ringing: app::fan_out::Turns::default(),
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
    let mut background = start_background(&app, &outboxes);
    background.push(tokio::spawn(committer));
    let (every, days) = (config.countersign_every, config.audit_retention_days);
    background.push(tokio::spawn(app::audit::countersign(
        app.clone(),
        every,
        days,
    )));

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
        outboxes.denials_flush().await;
    };
    let close = async {
        tokio::join!(bus.drain(), pools.close());
    };
    let limit = service.shutdown;
    shutdown.end(limit, endpoints.stop(), last, close).await;
    Ok(())
}

fn start_background(app: &Arc<App>, outboxes: &Outboxes) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(outboxes.clone().denials_run()),
        tokio::spawn(outboxes.clone().audit_run()),
        tokio::spawn(outboxes.clone().events_run()),
        tokio::spawn(app::signer::announce(app.clone())),
        tokio::spawn(app::mirror::follow(app.clone())),
        tokio::spawn(app::mirror::listen(app.clone())),
        tokio::spawn(app::deadline::tick(app.clone())),
        tokio::spawn(app::ring::tick(app.clone())),
        tokio::spawn(app::quarantine::report(app.clone())),
    ]
}

//! The worker: it claims executions of its pool and runs their handlers (DESIGN §6).
//!
//! Rooms: [`config`], [`handler`] what runs an execution and what it may ask for, [`builtin`] the handlers that are always
//! there, [`app`] the session, claims, attempts, finishes, logs and the end, [`error`], [`metrics`]. This file wires them.

use bus::{Bus, BusConfig};
use runtime::{ConfigError, Shutdown};
use tokio::sync::watch;

pub mod app;
pub mod builtin;
pub mod config;
pub mod error;
pub mod handler;
pub mod metrics;

pub use config::Config;
pub use error::WorkerError;
pub use handler::{Context, Failure, Handler, Handlers, Level};

use app::Worker;
use app::witness::Witness;

/// Runs the worker with the builtin handlers until the shutdown has begun and its handlers have ended.
///
/// # Errors
/// [`WorkerError`] when it cannot start. A bus or scheduler that is away is waited for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), WorkerError> {
    run_with(config, Handlers::builtin(), shutdown).await
}

/// The same, with these handlers.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    handlers: Handlers,
    shutdown: Shutdown,
) -> Result<(), WorkerError> {
    let service = config.service.clone();
    let seed = runtime::keys::read_seed(&service.keys, &format!("nats-{}.nk", config.pool))
        .map_err(|error| without_seed(error, &config.pool))?;
    let bus = Bus::connect(BusConfig::worker(
        service.nats_urls.clone(),
        service.nats_ca.clone(),
        seed,
        &config.pool,
    ))
    .await?;
    let egress = egress_client(&config)?;
    let witness = config
        .witness
        .as_deref()
        .map(|path| {
            Witness::open(path)
                .map_err(|error| wrong_file("DASHFLEET_WORKER_WITNESS", path, &error))
        })
        .transpose()?;
    let metrics = metrics::Metrics::new()?;
    let (standing, stands) = watch::channel(Some("starting".to_owned()));
    let connection = bus.clone();
    let readiness = move || {
        if connection.is_connected() {
            stands.borrow().clone()
        } else {
            Some("the bus is away".to_owned())
        }
    };
    runtime::admin::serve(
        &service.admin_addr,
        metrics.registry(),
        std::sync::Arc::new(readiness),
        &shutdown,
    )
    .await?;
    let worker = Worker::new(
        config,
        handlers,
        bus.clone(),
        egress,
        metrics,
        standing,
        witness,
    );
    Box::pin(worker.run(&shutdown)).await;
    shutdown.close(bus.drain()).await;
    Ok(())
}

/// Says what to do, besides: each pool has a user of its own on the bus.
fn without_seed(error: ConfigError, pool: &str) -> ConfigError {
    let reason = error.reason;
    ConfigError {
        reason: format!(
            "{reason}; where the pool `{pool}` has no seed yet, name it in DASHFLEET_SCHEDULER_POOLS and run \
             `dashfleet-bootstrap keys`, `nats-config` and `bus` again (services/worker/README.md, Pools)"
        ),
        ..error
    }
}

fn egress_client(config: &Config) -> Result<egress::Client, WorkerError> {
    let variable = "DASHFLEET_EGRESS_CA";
    let ca = config
        .egress_ca
        .as_deref()
        .map(|path| std::fs::read(path).map_err(|error| wrong_file(variable, path, &error)))
        .transpose()?;
    egress::Client::new(config.egress.clone(), ca.as_deref()).map_err(|error| {
        WorkerError::Config(ConfigError {
            variable: variable.into(),
            reason: error.to_string(),
        })
    })
}

fn wrong_file(variable: &str, path: &std::path::Path, error: &std::io::Error) -> ConfigError {
    ConfigError {
        variable: variable.into(),
        reason: format!("{}: {error}", path.display()),
    }
}

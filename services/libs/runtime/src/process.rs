//! How a `main` begins and ends.

use std::process::ExitCode;
use std::time::Duration;

use crate::config::{ConfigError, EXIT_CONFIG, Reader, TelemetryConfig};
use crate::{Shutdown, telemetry};

/// How long threads of the runtime may take to end: one that computes a hash or sends spans cannot be interrupted, and
/// would be waited for without end.
const THREADS_MAX: Duration = Duration::from_secs(1);

/// Runs a service as [`main`] does, as `dashfleet-<name>`, with telemetry from its beginning to its end, and until it is told
/// to end by a signal. `means` says how it speaks, and how long its end may take before connections are closed.
pub fn service<C, F, E>(
    name: &'static str,
    read: impl FnOnce(&mut Reader) -> Result<C, ConfigError>,
    means: impl FnOnce(&C) -> (&TelemetryConfig, Duration),
    run: impl FnOnce(C, Shutdown) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: From<ConfigError> + std::fmt::Display,
{
    main(&format!("dashfleet-{name}"), read, |config| async move {
        let (how, limit) = means(&config);
        telemetry::begin(name, how)?;
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        let ended = shutdown.in_time(limit, run(config, shutdown.clone())).await;
        telemetry::end().await;
        ended
    })
}

/// Runs a service: reads its configuration, answers `--print-config` and `--help`, runs it to its end.
///
/// `read` makes the configuration; `run` is the service, and its error text is shown with exit code 1.
pub fn main<C, F, E>(
    name: &str,
    read: impl FnOnce(&mut Reader) -> Result<C, ConfigError>,
    run: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut reader = Reader::from_environment();
    let config = read(&mut reader);
    let flag = std::env::args().nth(1);
    match flag.as_deref() {
        None => {}
        Some("--print-config") => {
            print!("{}", reader.print());
            return finish(name, config.map(|_| ()));
        }
        Some(other) => {
            eprintln!(
                "usage: {name} [--print-config]\n\n`{other}` is not known. Configuration comes from DASHFLEET_… variables."
            );
            return exit(EXIT_CONFIG);
        }
    }
    run_configured(name, config, run)
}

/// Runs a one-shot command of a binary to its end: as [`main`], but it has no flags.
pub fn command<C, F, E>(
    name: &str,
    read: impl FnOnce(&mut Reader) -> Result<C, ConfigError>,
    run: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    run_configured(name, read(&mut Reader::from_environment()), run)
}

fn run_configured<C, F, E>(
    name: &str,
    config: Result<C, ConfigError>,
    run: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let config = match config {
        Ok(config) => config,
        Err(error) => return finish(name, Err(error)),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(name, &error),
    };
    let ended = runtime.block_on(run(config));
    runtime.shutdown_timeout(THREADS_MAX);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(name, &error),
    }
}

fn finish(name: &str, result: Result<(), ConfigError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: bad configuration: {error}");
            exit(EXIT_CONFIG)
        }
    }
}

fn fail(name: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::FAILURE
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

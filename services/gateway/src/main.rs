//! The gateway's program.

use std::io::Write;
use std::process::ExitCode;

use dashfleet_gateway::{Config, GatewayError, document};
use runtime::{Shutdown, process, telemetry};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--print-openapi") {
        return match std::io::stdout().write_all(document::text().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    process::main("dashfleet-gateway", Config::read, run)
}

async fn run(config: Config) -> Result<(), GatewayError> {
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let limit = config.end_max();
    let work = Box::pin(dashfleet_gateway::run(config, shutdown.clone()));
    let ended = shutdown.in_time(limit, work).await;
    telemetry::end().await;
    ended
}

//! `dashfleet-worker`: claims executions and runs their handlers.

use std::process::ExitCode;

use dashfleet_worker::{Config, run};
use runtime::process;

fn main() -> ExitCode {
    process::service(
        "worker",
        Config::read,
        |config| (&config.service.telemetry, config.end_max()),
        run,
    )
}

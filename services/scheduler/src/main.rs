//! `dashfleet-scheduler`: jobs and their executions.

use std::process::ExitCode;

use dashfleet_scheduler::{Config, run};
use runtime::process;

fn main() -> ExitCode {
    process::service(
        "scheduler",
        Config::read,
        |config| (&config.service.telemetry, config.service.shutdown),
        run,
    )
}

//! `dashfleet-metrics`: the process. Everything else is in the library.

use std::process::ExitCode;

use dashfleet_metrics::{Config, run};
use runtime::process;

fn main() -> ExitCode {
    process::service(
        "metrics",
        Config::read,
        |config| (&config.service.telemetry, config.service.shutdown),
        run,
    )
}

//! `dashfleet-action`: actions, effectively once, honestly reported.

use std::process::ExitCode;

use dashfleet_action::{Config, run};
use runtime::process;

fn main() -> ExitCode {
    process::service(
        "action",
        Config::read,
        |config| (&config.service.telemetry, config.service.shutdown),
        run,
    )
}

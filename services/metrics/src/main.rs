//! `dashfleet-metrics`: the process. Everything else is in the library.

use std::process::ExitCode;

use dashfleet_metrics::{Config, main_run};

fn main() -> ExitCode {
    runtime::process::main("dashfleet-metrics", Config::read, main_run)
}

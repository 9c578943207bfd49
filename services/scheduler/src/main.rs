//! `dashfleet-scheduler`: jobs and their executions.

use std::process::ExitCode;

use dashfleet_scheduler::{Config, main_run};

fn main() -> ExitCode {
    runtime::process::main("dashfleet-scheduler", Config::read, main_run)
}

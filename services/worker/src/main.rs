//! `dashfleet-worker`: claims executions and runs their handlers.

use std::process::ExitCode;

use dashfleet_worker::{Config, main_run};

fn main() -> ExitCode {
    runtime::process::main("dashfleet-worker", Config::read, main_run)
}

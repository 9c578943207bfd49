//! `dashfleet-action`: actions, effectively once, honestly reported.

use std::process::ExitCode;

use dashfleet_action::{Config, main_run};

fn main() -> ExitCode {
    runtime::process::main("dashfleet-action", Config::read, main_run)
}

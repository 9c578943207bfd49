//! The binary `dashfleet-identity`: the service, and its one-shot command `bootstrap`.

use std::process::ExitCode;

use dashfleet_identity::config::{BootstrapConfig, Config};
use runtime::process;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("bootstrap") {
        return process::command(
            "dashfleet-identity bootstrap",
            BootstrapConfig::read,
            dashfleet_identity::bootstrap,
        );
    }
    process::main(
        "dashfleet-identity",
        Config::read,
        dashfleet_identity::main_run,
    )
}

//! The binary `dashfleet-identity`: the service, and its one-shot commands `bootstrap`, `password-reset` and
//! `platform-admin`.

use std::process::ExitCode;

use dashfleet_identity as identity;
use dashfleet_identity::config::{AccountConfig, BootstrapConfig, Config};
use runtime::process;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("bootstrap") => process::command(
            "dashfleet-identity bootstrap",
            BootstrapConfig::read,
            identity::bootstrap,
        ),
        Some("password-reset") => process::command(
            "dashfleet-identity password-reset",
            AccountConfig::read,
            identity::password_reset,
        ),
        Some("platform-admin") => process::command(
            "dashfleet-identity platform-admin",
            AccountConfig::read,
            identity::platform_admin,
        ),
        _ => process::service(
            "identity",
            Config::read,
            |config| (&config.service.telemetry, config.service.shutdown),
            identity::run,
        ),
    }
}

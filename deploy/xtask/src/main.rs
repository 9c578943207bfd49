//! `cargo xtask`: the launcher's entry point. Everything it does is in the library beside it.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    launcher::run(std::env::args().skip(1).collect())
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("The launcher runs on Linux only.");
    ExitCode::FAILURE
}

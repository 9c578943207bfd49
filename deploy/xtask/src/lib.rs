//! The launcher: runs the whole product on one machine, and the project's own chores.
//!
//! A map of its rooms:
//!
//! - [`args`] reads the command line, [`commands`] holds one file for each command.
//! - [`workspace`] knows where the clone and its binaries are; [`tools`] finds or gets nats-server and PostgreSQL.
//! - [`folder`] is the layout of `<data>`; [`files`], [`ports`], [`secrets`] and [`devfile`] keep what lies in it.
//! - [`table`] says which processes there are and what each is told, [`replicas`] how many of each; [`startup`] brings
//!   them up in order; [`supervisor`] keeps them running, and stops them; [`cluster`] is the private PostgreSQL.
//! - [`process`] identifies processes so that a reused pid is never signalled; [`orphans`] ends what an earlier
//!   launcher left behind; [`health`] and [`http`] ask a process how it is.
//! - [`system`] holds the few calls of libc, and is the only file with unsafe code.

#![cfg(target_os = "linux")]

pub mod args;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod devfile;
pub mod error;
pub mod files;
pub mod folder;
pub mod health;
pub mod http;
pub mod orphans;
pub mod ports;
pub mod process;
pub mod replicas;
pub mod secrets;
pub mod startup;
pub mod supervisor;
pub mod system;
pub mod table;
pub mod terminal;
pub mod tools;
pub mod workspace;

use std::process::ExitCode;

/// Runs one command line and turns its outcome into the exit code; an error is printed for a person.
pub fn run(arguments: Vec<String>) -> ExitCode {
    let outcome = workspace::own_program()
        .and_then(|_| args::parse(&arguments))
        .and_then(commands::dispatch);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Who sent the signal knows, and has been told what was stopped.
            if !matches!(error, error::Error::Interrupted) {
                terminal::complain(&format!("error: {error}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

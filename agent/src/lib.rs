//! This crate is the agent: it samples its machine and executes signed actions exactly as said.
//!
//! Rooms: [`config`] command line and environment, [`enroll`] and [`run`] the two commands, [`state`] the state
//! folder, [`policy`] what the machine's owner allows, [`inbound`] what the bus brings, verified, [`engine`] what is
//! decided, [`journal`] what is never forgotten, [`app`] the loop between them, [`kinds`] what actions do,
//! [`platform`] how each operating system does it, [`collect`] looking at the machine, [`buffer`] samples on the
//! disk, [`clock`] the time that deadlines mean, [`care`] what the machine's owner asks the agent about itself, [`log_file`]
//! logs where there is no journal, [`backoff`] waiting, [`metrics`] the agent's own counters, [`error`] exit codes.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use runtime::{Reader, Shutdown};

pub mod app;
pub mod backoff;
pub mod buffer;
pub mod care;
pub mod clock;
pub mod collect;
pub mod config;
pub mod engine;
pub mod enroll;
pub mod error;
pub mod inbound;
pub mod journal;
pub mod kinds;
pub mod log_file;
pub mod metrics;
pub mod platform;
pub mod policy;
pub mod run;
pub mod state;

use app::core::Exit;
use config::{AgentConfig, Command, CommandLine};
use error::AgentError;
use log_file::LogFile;

/// The agent: reads the command line, does what it says, and ends with the exit code that says how.
#[must_use]
pub fn main() -> ExitCode {
    platform::memory_begin();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let code = if error.use_stderr() {
                AgentError::Config(String::new()).code()
            } else {
                0
            };
            if error.print().is_err() {
                return ExitCode::FAILURE;
            }
            return ExitCode::from(code);
        }
    };
    // Taken before anything can replace the file: an update puts the new program in the same place.
    let program = std::env::current_exe();
    match start(line, program.as_deref().ok()) {
        Ok(Exit::Stopped) => ExitCode::SUCCESS,
        Ok(Exit::Restart) => restart(program),
        Err(error) => {
            eprintln!("dashfleet-agent: {error}");
            error.exit_code()
        }
    }
}

fn start(line: CommandLine, program: Option<&Path>) -> Result<Exit, AgentError> {
    let mut reader = Reader::from_environment();
    if let Command::Run(options) = &line.command
        && let Some(state) = &options.state
    {
        reader.set("DASHFLEET_AGENT_STATE", state.display().to_string());
    }
    let config = AgentConfig::read(&mut reader)?;
    if let Command::Run(options) = &line.command
        && options.print_config
    {
        print!("{}", reader.print());
        return Ok(Exit::Stopped);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AgentError::Internal(format!("the asynchronous runtime: {error}")))?;
    runtime.block_on(async {
        telemetry(&line.command, &config)?;
        let ended = match line.command {
            Command::Enroll(options) => enroll::enroll(&config, &options).await.map(|enrolment| {
                let enrolled = enrolment.enrolled;
                // People read the one, scripts the other.
                eprintln!("This machine is enrolled. Start the agent with `dashfleet-agent run`.");
                let ids = serde_json::json!({
                    "organizationId": enrolled.organization_id,
                    "machineId": enrolled.machine_id,
                });
                println!("{ids}");
                Exit::Stopped
            }),
            Command::Status(options) => care::status::status(&config, &options),
            Command::Diagnose(options) => care::diagnose::diagnose(&config, &options).await,
            Command::Uninstall(options) => {
                care::uninstall::uninstall(&config, &options, program).await
            }
            Command::Run(options) => {
                let mut config = config;
                config.state = options.state.unwrap_or(config.state);
                let shutdown = Shutdown::new();
                shutdown.on_signals();
                Box::pin(run::run(&config, program, shutdown)).await
            }
        };
        runtime::telemetry::end().await;
        ended
    })
}

/// Only the agent at work has a log; a command that a person calls speaks to that person.
fn telemetry(command: &Command, config: &AgentConfig) -> Result<(), AgentError> {
    let log = match (&config.log_file, command) {
        (Some(path), Command::Run(_)) => path,
        _ => return Ok(runtime::telemetry::begin("agent", &config.telemetry)?),
    };
    let file = LogFile::open(log, log_file::SIZE_MAX).map_err(|error| {
        AgentError::Config(format!(
            "DASHFLEET_AGENT_LOG_FILE: {}: {error}",
            log.display()
        ))
    })?;
    Ok(runtime::telemetry::begin_with(
        "agent",
        &config.telemetry,
        file,
    )?)
}

fn restart(program: std::io::Result<std::path::PathBuf>) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let error = match program {
        Ok(program) => platform::restart_in_place(&program, &arguments),
        Err(error) => error,
    };
    // The journal knows that the restart began: whoever starts the agent again completes it.
    let error = AgentError::Internal(format!("the agent could not restart itself: {error}"));
    eprintln!("dashfleet-agent: {error}");
    error.exit_code()
}

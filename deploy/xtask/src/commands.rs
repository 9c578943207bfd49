//! One file for each command.

pub mod bench;
pub mod down;
pub mod keys;
pub mod openapi;
pub mod status;
pub mod suite;
pub mod supervise;
pub mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::{Command, HELP};
use crate::error::Result;
use crate::terminal;
use crate::workspace::Workspace;

/// The data folder inside the clone when none is named.
const DEFAULT_DATA: &str = ".dashfleet";

/// Runs one command.
pub fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(options) => up::run(&options)?,
        Command::Supervise { data } => supervise::run(&data)?,
        Command::Down { data } => down::run(&data_path(data)?)?,
        Command::Status { data } => return status::run(&data_path(data)?),
        Command::Test { long } => suite::run(long)?,
        Command::Bench { names } => bench::run(&names)?,
        Command::Openapi { check } => openapi::run(check)?,
        Command::Keys { dir } => keys::run(&dir)?,
        Command::Help => terminal::say(HELP),
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder that was named (relative to where the caller stands), or the clone's own.
pub fn data_path(named: Option<PathBuf>) -> Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(&path)
            .map_err(|source| crate::error::Error::io("cannot resolve", &path, source)),
        None => Ok(Workspace::find()?.root.join(DEFAULT_DATA)),
    }
}

/// The `--data` option to repeat in advice, empty for the default folder.
pub fn data_option(data: &Path) -> String {
    let default = Workspace::find().is_ok_and(|workspace| {
        workspace
            .root
            .join(DEFAULT_DATA)
            .canonicalize()
            .is_ok_and(|path| path == data)
    });
    if default {
        String::new()
    } else {
        format!(" --data {}", data.display())
    }
}

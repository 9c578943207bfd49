//! `status`: each process, its pid, port and health, in 80 columns.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::clock;
use crate::devfile::Devfile;
use crate::error::Result;
use crate::folder::Folder;
use crate::http;
use crate::supervisor::record::{self, Entry};
use crate::supervisor::spec::Group;
use crate::terminal;

/// What `status` exits with when the product does not run, as service managers do.
const NOT_RUNNING: u8 = 3;
/// The room for a process's health, so that a line ends before column 80.
const HEALTH: usize = 30;

/// Prints the table. The exit code is 0 when everything is ready, 1 when something is not, 3 when nothing runs.
pub fn run(data: &Path) -> Result<ExitCode> {
    let running = match data.is_dir() {
        true => Folder::at(data).and_then(|data| Ok(data.supervisor()?.map(|who| (data, who))))?,
        false => None,
    };
    let Some((data, supervisor)) = running else {
        terminal::say(&format!("not running ({})", data.display()));
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    let devfile = Devfile::read(&data.devfile())?;
    let entries = record::read(&data.record())?;
    terminal::say(&line("PROCESS", "PID", "PORT", "HEALTH", "DEATHS", "SINCE"));
    let state = if devfile.is_some() {
        "ready"
    } else {
        "starting or stopping"
    };
    terminal::say(&line(
        "supervisor",
        &supervisor.pid.to_string(),
        "-",
        state,
        "-",
        "-",
    ));
    let mut all_ready = devfile.is_some();
    for entry in &entries {
        let health = health_of(entry, devfile.as_ref());
        all_ready &= health.is_ok();
        let health = health.unwrap_or_else(|reason| reason);
        terminal::say(&row(entry, &health));
    }
    if let Some(devfile) = devfile {
        terminal::say(&format!("\n{}   {}", devfile.url, data.devfile().display()));
    }
    Ok(if all_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn health_of(entry: &Entry, devfile: Option<&Devfile>) -> Result<String, String> {
    let alive = entry
        .identity
        .as_ref()
        .is_some_and(|identity| identity.is_alive());
    if !alive {
        return Err("dead, being started again".to_owned());
    }
    match (entry.group, devfile) {
        (Group::Agent, Some(devfile)) => machine_status(devfile),
        _ => entry.probe.ask().map(|()| "ready".to_owned()),
    }
}

/// The agent is as well as the product sees its machine.
fn machine_status(devfile: &Devfile) -> Result<String, String> {
    let url = format!("{}/api/v1/machines/{}", devfile.url, devfile.machine_id);
    let answer = http::get(&url, Some(&devfile.api_key), Duration::from_secs(2))
        .map_err(|_| "unknown: the gateway is away".to_owned())?;
    let status = answer
        .json()
        .get("status")
        .and_then(|status| status.as_str())
        .map(str::to_owned);
    match status {
        Some(status) if status == "ONLINE" => Ok(status),
        Some(status) => Err(status),
        None => Err(format!("unknown: status {}", answer.status)),
    }
}

/// One process as a line of the table.
pub fn row(entry: &Entry, health: &str) -> String {
    let pid = entry
        .identity
        .as_ref()
        .map_or("-".to_owned(), |identity| identity.pid.to_string());
    let port = entry.port.map_or("-".to_owned(), |port| port.to_string());
    let since = clock::span_text(clock::now_seconds().saturating_sub(entry.since));
    line(
        &entry.name,
        &pid,
        &port,
        health,
        &entry.deaths.to_string(),
        &since,
    )
}

fn line(name: &str, pid: &str, port: &str, health: &str, deaths: &str, since: &str) -> String {
    let health: String = health.chars().take(HEALTH).collect();
    let text = format!("{name:<14} {pid:>8} {port:>6}  {health:<HEALTH$} {deaths:>6} {since:>6}");
    text.trim_end().to_owned()
}

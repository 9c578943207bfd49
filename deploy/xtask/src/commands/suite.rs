//! `test`: the whole suite from a fresh clone, one step after the other, each timed; the first failure ends it.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::terminal;
use crate::tools::{nats, postgres};
use crate::workspace::{self, Workspace};

/// The checks of the deployment files (rendered manifests, Dockerfile).
const DEPLOYMENT_CHECK: &str = "deploy/check.sh";

/// What tests and benches are told about the servers that they start.
pub fn server_environment(workspace: &Workspace) -> Result<Vec<(&'static str, OsString)>> {
    let nats_server = nats::ensure(&workspace.tools())?;
    let postgres = postgres::ensure(None)?.folder;
    Ok(vec![
        ("DASHFLEET_NATS_SERVER", nats_server.into()),
        ("DASHFLEET_POSTGRES_BIN", postgres.into()),
    ])
}

/// Runs the suite.
pub fn run(long: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    let begun = Instant::now();
    let mut environment = timed("servers", || server_environment(&workspace))?;
    if long {
        environment.push(("DASHFLEET_LONG", "1".into()));
    }
    let cargo = |arguments: &[&str]| {
        let mut command = workspace.cargo(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    };
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    let mut steps = vec![
        ("format", cargo(&["fmt", "--check"])),
        ("clippy", cargo(&clippy)),
        // Tests of the whole product run its binaries.
        ("build", cargo(&["build", "--workspace"])),
        ("tests", cargo(&["test", "--workspace"])),
    ];
    if workspace.root.join(DEPLOYMENT_CHECK).is_file() {
        let mut command = Command::new("bash");
        command.args([DEPLOYMENT_CHECK, "--built", "--binaries"]);
        command
            .arg(workspace.binaries(false))
            .current_dir(&workspace.root);
        steps.push(("deployment", command));
    }
    let mut times = Vec::new();
    for (name, command) in steps {
        let started = Instant::now();
        terminal::say(&format!("\n== {name}: {}", words(&command)));
        workspace::run(command, &format!("step `{name}`")).map_err(|error| {
            Error::failed(format!(
                "{error} after {}; the steps after it did not run",
                text(started)
            ))
        })?;
        times.push(format!("{name} {}", text(started)));
        terminal::say(&format!("== {name}: passed in {}", text(started)));
    }
    terminal::say(&format!(
        "\nEverything passed in {} ({}).",
        text(begun),
        times.join(", ")
    ));
    Ok(())
}

fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    terminal::say(&format!("== {name}: nats-server and PostgreSQL"));
    let outcome = work()?;
    terminal::say(&format!("== {name}: there in {}", text(started)));
    Ok(outcome)
}

/// A command as one could type it.
fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy());
    std::iter::once(program)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

fn text(since: Instant) -> String {
    let elapsed: Duration = since.elapsed();
    match elapsed.as_secs() {
        0..=59 => format!("{:.1} s", elapsed.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

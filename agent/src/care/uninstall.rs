//! `uninstall`: the agent goes, and leaves nothing. The service ends first; then unit, state, configuration and program
//! are removed, in this order, so that whoever is interrupted can call it again. A program that nobody has installed (in
//! a checkout, or still in a download) stays, whoever calls it.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::core::Exit;
use crate::care::{say, wrapped};
use crate::config::{AgentConfig, PolicyPath, UninstallOptions};
use crate::error::AgentError;
use crate::platform;
use crate::state::StateFolder;
use crate::state::enrolment::Enrolment;

/// How long the agent may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look meanwhile.
const AGAIN: Duration = Duration::from_millis(100);
/// What a state folder has: a folder without one of these is not removed.
const SIGNS: [&str; 4] = ["enrolment.json", "seed.nk", "seal.json", "agent.lock"];

/// Removes the agent.
///
/// # Errors
/// [`AgentError::Config`] when nobody agrees; [`AgentError::Unwell`] when something could not be removed;
/// [`AgentError::State`] when an agent that is no service runs on.
pub async fn uninstall(
    config: &AgentConfig,
    options: &UninstallOptions,
    program: Option<&Path>,
) -> Result<Exit, AgentError> {
    let folder = options.state.as_deref().unwrap_or(&config.state);
    let enrolment = Enrolment::look(folder).ok().flatten();
    // A unit of another program is not this agent's.
    let mut files = platform::service_files();
    let has_files = !files.is_empty();
    files.retain(|file| names(file, program));
    let is_service = !has_files || !files.is_empty();
    let named = !files.is_empty();
    let installed = program.filter(|program| named || is_installed(program));
    if installed.is_none() && !is_state(folder) {
        let told = format!(
            "Nothing is installed here: no service names this program, it is not {}, and {} is no state folder of an \
             agent. Nothing was removed.",
            platform::PLACES.program,
            folder.display()
        );
        say(&format!("{}\n", wrapped(&told, 0)));
        return Ok(Exit::Stopped);
    }
    files.push(config.file.path().to_owned());
    if config.policy == PolicyPath::Usual {
        files.push(config.policy.path().to_owned());
    }
    files.extend(
        config
            .log_file
            .iter()
            .flat_map(|log| crate::log_file::all(log)),
    );
    files.retain(|file| file.exists());
    if !options.yes && !agreed(folder, &files, installed)? {
        return Err(AgentError::Config("nothing was removed".into()));
    }
    let mut wrong = Vec::new();
    if is_service && let Err(reason) = platform::service_stop().await {
        wrong.push(format!("the service: {reason}"));
    }
    ended(folder).await?;
    let mut removed = Vec::new();
    // The program goes last, and only after everything else: without it this cannot be called again.
    if let Err(reason) = remove_state(folder, &mut removed) {
        wrong.push(format!("{}: {reason}", folder.display()));
    }
    for file in files {
        match std::fs::remove_file(&file) {
            Ok(()) => removed.push(file),
            Err(error) => wrong.push(format!("{}: {error}", file.display())),
        }
    }
    if let Some(program) = installed.filter(|_| wrong.is_empty()) {
        match std::fs::remove_file(program) {
            Ok(()) => removed.push(program.to_owned()),
            Err(error) => wrong.push(format!("{}: {error}", program.display())),
        }
    }
    // Only when nobody else has something there.
    for empty in [config.file.path(), config.policy.path()]
        .into_iter()
        .filter_map(Path::parent)
    {
        if std::fs::remove_dir(empty).is_ok() {
            removed.push(empty.to_owned());
        }
    }
    if is_service && let Err(reason) = platform::service_forget().await {
        tracing::debug!(reason, "the service manager was not told");
    }
    for path in &removed {
        say(&format!("removed {}\n", path.display()));
    }
    if let (None, Some(program)) = (installed, program) {
        say(&format!(
            "left    {}: it was not installed here\n",
            program.display()
        ));
    }
    if let Some(enrolment) = enrolment {
        let told = format!(
            "The server still lists this machine as offline. A machine cannot revoke itself: whoever may revoke machines \
             ends it there with DELETE {}/api/v1/machines/{}",
            enrolment.url, enrolment.enrolled.machine_id
        );
        say(&format!("{}\n", wrapped(&told, 0)));
    }
    if wrong.is_empty() {
        Ok(Exit::Stopped)
    } else {
        Err(AgentError::Unwell(format!(
            "not removed: {}",
            wrong.join("; ")
        )))
    }
}

/// Whether a program is where the install script puts it.
fn is_installed(program: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(program) == real(Path::new(platform::PLACES.program))
}

/// Whether a folder is one that an agent keeps its state in.
fn is_state(folder: &Path) -> bool {
    SIGNS.iter().any(|sign| folder.join(sign).exists())
}

/// Whether a unit names this program.
fn names(unit: &Path, program: Option<&Path>) -> bool {
    let text = std::fs::read_to_string(unit).unwrap_or_default();
    program.is_some_and(|program| text.contains(&program.display().to_string()))
}

fn agreed(folder: &Path, files: &[PathBuf], program: Option<&Path>) -> Result<bool, AgentError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(AgentError::Config(
            "nobody is there to agree: give --yes".into(),
        ));
    }
    say(&format!(
        "This ends the agent and removes\n  {}\n",
        folder.display()
    ));
    for file in files.iter().map(PathBuf::as_path).chain(program) {
        say(&format!("  {}\n", file.display()));
    }
    say("The machine's key is lost with it. Go on? [y/N] ");
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| AgentError::Internal(error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Waits until no agent holds the folder.
async fn ended(folder: &Path) -> Result<(), AgentError> {
    let begun = Instant::now();
    while StateFolder::is_held(folder) {
        if begun.elapsed() > PATIENCE {
            return Err(AgentError::state(
                folder,
                "an agent that is no service of this machine is using it; end it and call this again",
            ));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

/// Removes a state folder; a folder that is none stays, whatever somebody has configured.
fn remove_state(folder: &Path, removed: &mut Vec<PathBuf>) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    if !is_state(folder) {
        let mut entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        // An empty one is nobody's state, and may be there for something else.
        if entries.next().is_none() {
            return Ok(());
        }
        return Err("is no state folder of an agent: look at it and remove it by hand".into());
    }
    std::fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
    removed.push(folder.to_owned());
    Ok(())
}

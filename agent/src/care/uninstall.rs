//! `uninstall`: the agent goes, and leaves nothing. The service ends first; then state, configuration, unit and program
//! are removed, in this order, so that whoever is interrupted can call it again: without its unit a program that lies
//! at no usual place is nobody's. A program that nobody has installed (in a checkout, or still in a download) stays,
//! whoever calls it.

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
    let usual = Path::new(platform::PLACES.program);
    let mut units = platform::service_files();
    let has_units = !units.is_empty();
    units.retain(|unit| program.is_some_and(|program| names(unit, program, usual)));
    let is_service = !has_units || !units.is_empty();
    let installed = program.filter(|program| !units.is_empty() || is_same(program, usual));
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
    let mut files: Vec<PathBuf> = config
        .log_file
        .iter()
        .flat_map(|log| crate::log_file::all(log))
        .collect();
    if config.policy == PolicyPath::Usual {
        files.push(config.policy.path().to_owned());
    }
    // After the others: where those are may stand in it.
    files.push(config.file.path().to_owned());
    files.retain(|file| file.exists());
    let going = Going {
        state: folder.to_owned(),
        files,
        units,
        program: installed.map(Path::to_owned),
    };
    if !options.yes && !agreed(&going)? {
        return Err(AgentError::Config("nothing was removed".into()));
    }
    let mut wrong = Vec::new();
    if is_service && let Err(reason) = platform::service_stop().await {
        wrong.push(format!("the service: {reason}"));
    }
    ended(folder).await?;
    let mut removed = going.remove(&mut wrong);
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

/// What is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Going {
    /// The state folder.
    pub state: PathBuf,
    /// Logs, policy and configuration.
    pub files: Vec<PathBuf>,
    /// What makes the program a service.
    pub units: Vec<PathBuf>,
    /// The program, if somebody has installed it.
    pub program: Option<PathBuf>,
}

impl Going {
    /// Removes it in the order of the fields, and says what is gone. A second call knows by the configuration where the
    /// state is, by the units what belongs to it, and needs the program to be called at all: each file goes only when
    /// nothing was wrong before it.
    #[must_use]
    pub fn remove(&self, wrong: &mut Vec<String>) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        if let Err(reason) = remove_state(&self.state, &mut removed) {
            wrong.push(format!("{}: {reason}", self.state.display()));
        }
        remove_files(&self.files, &mut removed, wrong);
        remove_files(&self.units, &mut removed, wrong);
        remove_files(self.program.as_slice(), &mut removed, wrong);
        removed
    }
}

/// Removes files, as long as nothing is wrong.
fn remove_files(files: &[PathBuf], removed: &mut Vec<PathBuf>, wrong: &mut Vec<String>) {
    for file in files {
        if !wrong.is_empty() {
            return;
        }
        match std::fs::remove_file(file) {
            Ok(()) => removed.push(file.clone()),
            // A log in the state folder is gone with that.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                removed.push(file.clone());
            }
            Err(error) => wrong.push(format!("{}: {error}", file.display())),
        }
    }
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Whether a folder is one that an agent keeps its state in.
fn is_state(folder: &Path) -> bool {
    SIGNS.iter().any(|sign| folder.join(sign).exists())
}

/// Whether a unit names this program: by the path that the system knows of it, or by the `usual` one, where that leads
/// to the same file. (`/usr/local` may be a link, and the system then tells a running program where it really is.)
#[must_use]
pub fn names(unit: &Path, program: &Path, usual: &Path) -> bool {
    let text = std::fs::read_to_string(unit).unwrap_or_default();
    let says = |path: &Path| text.contains(&path.display().to_string());
    says(program) || (is_same(program, usual) && says(usual))
}

fn agreed(going: &Going) -> Result<bool, AgentError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(AgentError::Config(
            "nobody is there to agree: give --yes".into(),
        ));
    }
    say(&format!(
        "This ends the agent and removes\n  {}\n",
        going.state.display()
    ));
    for file in going.files.iter().chain(&going.units).chain(&going.program) {
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
    emptied(folder).map_err(|error| error.to_string())?;
    removed.push(folder.to_owned());
    Ok(())
}

/// Removes a state folder. Its signs go last: whatever an interruption leaves of it is still a state folder. Where the
/// path is a link, what it leads to goes first.
fn emptied(folder: &Path) -> std::io::Result<()> {
    let real = folder.canonicalize()?;
    for entry in std::fs::read_dir(&real)? {
        let entry = entry?;
        if SIGNS.iter().any(|sign| entry.file_name() == *sign) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir_all(&real)?;
    // Without a slash at its end: with one the path would be what the link leads to.
    let link: PathBuf = folder.components().collect();
    if link.is_symlink() {
        std::fs::remove_file(link)?;
    }
    Ok(())
}

//! `down`: asks the supervisor to stop everything, and ends what is left without one.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::system::Signal;
use crate::{files, orphans, terminal};

/// Longer than the supervisor takes at most: every group's time together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stops the product in this folder.
pub fn run(data: &Path) -> Result<()> {
    if !data.is_dir() {
        terminal::progress("down", &format!("nothing has run in {}", data.display()));
        return Ok(());
    }
    let data = Folder::at(data)?;
    let supervisor = data.supervisor()?;
    if let Some(supervisor) = &supervisor {
        terminal::progress(
            "down",
            &format!("stopping (supervisor's pid {})", supervisor.pid),
        );
        supervisor.signal(Signal::Terminate);
        if !supervisor.wait_gone(PATIENCE) {
            terminal::progress("down", "the supervisor does not end; killing it");
            supervisor.signal(Signal::Kill);
            supervisor.wait_gone(Duration::from_secs(5));
        }
    }
    let _lock = data.lock_up()?;
    if data.supervisor()?.is_some() {
        return Err(Error::failed("another `up` has started it again meanwhile"));
    }
    let orphans = orphans::end(&data)?;
    files::remove(&data.devfile())?;
    let text = match (supervisor, orphans) {
        (None, 0) => "it was not running",
        _ => "everything has stopped",
    };
    terminal::progress("down", text);
    Ok(())
}

//! `supervise`: what `up --detach` leaves behind. Its output is `logs/supervisor.log`.

use std::path::Path;

use crate::error::Result;
use crate::folder::Folder;
use crate::startup;
use crate::supervisor::child::report;

/// Runs the product until a signal asks to stop.
pub fn run(data: &Path) -> Result<()> {
    let data = Folder::at(data)?;
    startup::run(&data, |_| report("everything runs"))
}

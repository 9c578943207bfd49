//! `keys`: makes a deployment's keys, by the bootstrap job's own command.

use std::path::Path;
use std::process::Command;

use crate::error::Result;
use crate::workspace::{self, Workspace};

/// Makes the keys in this folder; those that exist stay.
pub fn run(dir: &Path) -> Result<()> {
    let workspace = Workspace::find()?;
    workspace.build(false)?;
    let mut command = Command::new(workspace.binaries(false).join("dashfleet-bootstrap"));
    command.arg("keys").arg("--dir").arg(dir);
    workspace::run(command, "dashfleet-bootstrap keys")
}

//! `bench`: the benches of the package `dashfleet-tests`, all or those named.

use std::fs;
use std::path::Path;

use super::suite;
use crate::error::{Error, Result};
use crate::workspace::{self, Workspace};

const BENCHES: &str = "services/tests/benches";

/// Runs benches one after the other.
pub fn run(names: &[String]) -> Result<()> {
    let workspace = Workspace::find()?;
    let known = list(&workspace.root.join(BENCHES))?;
    let unknown = names.iter().find(|name| !known.contains(name));
    if let Some(name) = unknown {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(Error::Usage(format!(
            "there is no bench `{name}`; there are: {known}"
        )));
    }
    let chosen = if names.is_empty() { &known } else { names };
    if chosen.is_empty() {
        return Err(Error::failed(format!("there are no benches in {BENCHES}")));
    }
    let environment = suite::server_environment(&workspace)?;
    // The programs that benches measure; together with the benches, so that the features are theirs.
    // By name: `--benches` would build every library once more, with the harness of benches that they do not have.
    let mut programs = vec!["build", "--workspace", "--release", "--bins"];
    programs.extend(chosen.iter().flat_map(|name| ["--bench", name]));
    workspace::run(workspace.cargo(&programs), "the build")?;
    for name in chosen {
        // The whole workspace with a filter, so that the features are those of every other build.
        let mut command = workspace.cargo(&["bench", "--workspace", "--bench", name]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        workspace::run(command, &format!("bench `{name}`"))?;
    }
    Ok(())
}

/// The names of the benches in a folder, sorted.
pub fn list(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

//! The supervisor's record of its processes: what `status` shows, and what the next launcher ends when this one is
//! killed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spec::Group;
use crate::error::Result;
use crate::files;
use crate::health::Probe;
use crate::process::Identity;

/// One process as last seen by the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Unique name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Its place in the order of stopping.
    pub group: Group,
    /// Who it is; `None` while it waits to be started again.
    pub identity: Option<Identity>,
    /// Since when it runs or waits, in seconds since 1970.
    pub since: u64,
    /// How often it has died.
    pub deaths: u32,
    /// The port that people connect to.
    pub port: Option<u16>,
    /// How to ask it whether it is ready.
    pub probe: Probe,
}

/// Reads the record; empty when there is none.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    Ok(files::read_json(path)?.unwrap_or_default())
}

/// Replaces the record.
pub fn write(path: &Path, entries: &[Entry]) -> Result<()> {
    files::replace_json(path, &entries)
}

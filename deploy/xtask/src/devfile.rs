//! `dev.json`: addresses, credentials and pids of the running product, for people, tests and tools.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::files;
use crate::replicas::Replicas;
use crate::supervisor::record::Entry;
use crate::table::SERVICES;

/// The content of `dev.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Devfile {
    /// The first gateway's URL.
    pub url: String,
    /// The bootstrap organisation.
    pub organization_id: String,
    /// Its OWNER.
    pub admin_email: String,
    /// The OWNER's password.
    pub admin_password: String,
    /// An API key with the OWNER's rights.
    pub api_key: String,
    /// A key for agents and scripts of Dash-Fleet, with both of their scopes. Empty in the file of an older launcher.
    #[serde(default)]
    pub legacy_api_key: String,
    /// Enrols further agents.
    pub enrollment_token: String,
    /// The bus.
    pub nats_url: String,
    /// The bus for WebSocket clients.
    pub nats_websocket_url: String,
    /// The database as the migrations' owner.
    pub postgres_url: String,
    /// This machine.
    pub machine_id: String,
    /// All gateways, the first one first.
    pub gateway_urls: Vec<String>,
    /// Who is who: one number, or a list where there may be replicas; null for a process that is being restarted.
    pub pids: Map<String, Value>,
}

impl Devfile {
    /// Reads it; `None` while the product is not up.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        files::read_json(path)
    }

    /// Whether so many of each service run.
    pub fn has(&self, replicas: &Replicas) -> bool {
        SERVICES.iter().all(|service| {
            let pids = self.pids.get(service.name).and_then(Value::as_array);
            pids.map_or(0, Vec::len) >= replicas.of(service.name)
        })
    }

    /// Replaces it.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::replace_json(path, self)
    }
}

/// The `pids` of these processes.
pub fn pids(supervisor: u32, entries: &[Entry]) -> Map<String, Value> {
    let mut pids = Map::new();
    pids.insert("supervisor".to_owned(), supervisor.into());
    for entry in entries {
        let pid = entry.identity.as_ref().map(|identity| identity.pid);
        if !entry.group.has_replicas() {
            pids.insert(entry.kind.clone(), pid.into());
            continue;
        }
        let list = pids
            .entry(entry.kind.clone())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let (Some(pid), Some(list)) = (pid, list.as_array_mut()) {
            list.push(pid.into());
        }
    }
    pids
}

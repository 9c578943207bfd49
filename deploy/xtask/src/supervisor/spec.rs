//! What the supervisor is told about one process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Probe;
use crate::system::Signal;

/// Which part of the product a process belongs to, in the order in which they are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Group {
    /// The agent of this machine.
    Agent,
    /// Those that run handlers: while they end them they need our other services.
    Worker,
    /// Our services.
    Service,
    /// nats-server.
    Nats,
    /// PostgreSQL.
    Postgres,
}

impl Group {
    /// All, in the order in which they are stopped.
    pub const STOP_ORDER: [Self; 5] = [
        Self::Agent,
        Self::Worker,
        Self::Service,
        Self::Nats,
        Self::Postgres,
    ];

    /// Whether there may be replicas of a process.
    pub fn has_replicas(self) -> bool {
        matches!(self, Self::Worker | Self::Service)
    }

    /// How a process of this group is asked to stop: one request after the other, each with the time that it gets.
    /// What is left then is killed.
    pub fn requests(self) -> &'static [(Signal, Duration)] {
        const AGENT: &[(Signal, Duration)] = &[(Signal::Terminate, Duration::from_secs(6))];
        // As a service, and before that five for its handlers.
        const WORKER: &[(Signal, Duration)] = &[(Signal::Terminate, Duration::from_secs(23))];
        // Longer than a service takes at most: DASHFLEET_SHUTDOWN_MS, ten seconds, and seven more (the sum stands in
        // services/libs/runtime/src/shutdown.rs).
        const SERVICE: &[(Signal, Duration)] = &[(Signal::Terminate, Duration::from_secs(18))];
        const NATS: &[(Signal, Duration)] = &[(Signal::Terminate, Duration::from_secs(8))];
        const POSTGRES: &[(Signal, Duration)] = &[
            (Signal::Interrupt, Duration::from_secs(15)),
            (Signal::Quit, Duration::from_secs(6)),
        ];
        match self {
            Self::Agent => AGENT,
            Self::Worker => WORKER,
            Self::Service => SERVICE,
            Self::Nats => NATS,
            Self::Postgres => POSTGRES,
        }
    }

    /// What the kernel sends when the supervisor dies. PostgreSQL's immediate shutdown also ends its backends, and
    /// recovers at the next start; the others lose nothing by a kill.
    pub fn death(self) -> Signal {
        match self {
            Self::Postgres => Signal::Quit,
            _ => Signal::Kill,
        }
    }
}

/// The user that a process runs as, when it is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One process to keep running.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Unique: the kind's name, with `-2`, `-3`… for further replicas.
    pub name: String,
    /// What it is: `gateway`, `nats`…
    pub kind: String,
    /// When it is stopped, and how.
    pub group: Group,
    /// Its binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, besides what it inherits.
    pub env: Vec<(String, OsString)>,
    /// Whether it inherits the launcher's environment (without what could mislead it).
    pub inherit: bool,
    /// Its user.
    pub user: Option<User>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// The port that people connect to, for `status`.
    pub port: Option<u16>,
    /// How to ask it whether it is ready.
    pub probe: Probe,
    /// A PostgreSQL cluster that must be free of an earlier server's processes before each start.
    pub cluster: Option<PathBuf>,
}

//! What the service decides. One room per noun; all of them are methods of [`App`].
//!
//! Rooms: [`machine`] lists, [`selection`] what a selector chooses, [`sample`] taking and giving samples ([`bounds`] what is a sample), [`inventory`], [`legacy`] machines over HTTP,
//! [`presence`] who is there, [`history`] who was (with [`reconciliation`], what advisories missed, and [`watch`], what time decides),
//! [`mirror`] identity's machines, [`maintenance`] partitions, [`page`] cursors, [`readiness`].

pub mod bounds;
pub mod history;
pub mod inventory;
pub mod legacy;
pub mod machine;
pub mod maintenance;
pub mod mirror;
pub mod page;
pub mod presence;
pub mod readiness;
pub mod reconciliation;
pub mod sample;
pub mod selection;
pub mod watch;

use std::sync::Arc;

use bus::system::SystemBus;
use bus::{AgentSender, Bus};
use contract::{Problem, ProblemKind};
use database::{GroupCommit, Pools, Relay};
use tokio::sync::Notify;

use crate::app::mirror::Mirror;
use crate::app::readiness::Readiness;
use crate::app::reconciliation::Tracking;
use crate::error::MetricsError;
use crate::metrics::Metrics;
pub use crate::store::machine::Standing;
use crate::store::sample::SampleWrites;
use crate::store::session::SessionWrites;
use crate::timing::Timing;

/// The service's means. Shared by everything that runs.
pub struct App {
    /// The database.
    pub pools: Pools,
    /// The bus.
    pub bus: Bus,
    /// The bus' own account: who is connected.
    pub system: SystemBus,
    /// Events that leave with a commit.
    pub relay: Relay,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long it waits for what.
    pub timing: Timing,
    /// Whether it can do its work.
    pub readiness: Arc<Readiness>,
    /// Identity's machines.
    pub mirror: Mirror,
    /// Whether all that happened to connections was heard.
    pub tracking: Tracking,
    /// A partition is missing: make it now.
    pub maintain: Notify,
    pub(crate) samples: GroupCommit<SampleWrites>,
    pub(crate) sessions: GroupCommit<SessionWrites>,
}

impl App {
    /// The app, and the committers, which run until the app is dropped.
    pub fn new(
        pools: Pools,
        bus: Bus,
        system: SystemBus,
        relay: Relay,
        metrics: Arc<Metrics>,
        timing: Timing,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (samples, sample_committer) = GroupCommit::start(
            &pools,
            SampleWrites {
                metrics: metrics.clone(),
            },
        );
        let (sessions, session_committer) = GroupCommit::start(
            &pools,
            SessionWrites {
                metrics: metrics.clone(),
                graces: timing.graces,
            },
        );
        let app = Self {
            readiness: Arc::new(Readiness::new(&bus, &system)),
            pools,
            bus,
            system,
            relay,
            metrics,
            timing,
            mirror: Mirror::default(),
            tracking: Tracking::default(),
            maintain: Notify::new(),
            samples,
            sessions,
        };
        let committers = async move {
            tokio::join!(sample_committer, session_committer);
        };
        (Arc::new(app), committers)
    }

    /// Writes what a machine says. One that the mirror does not know may have enrolled a moment ago, and one that is
    /// quarantined there may have been released: then it looks, and writes once more.
    ///
    /// # Errors
    /// FORBIDDEN when the machine was revoked, or speaks over HTTP and is quarantined; UNAVAILABLE when it is not known yet;
    /// what `write` says.
    async fn machine_write<T, F>(
        &self,
        from: AgentSender,
        write: impl Fn() -> F,
    ) -> Result<T, MetricsError>
    where
        T: Copy + Into<Standing>,
        F: Future<Output = Result<T, MetricsError>>,
    {
        let mut written = write().await?;
        if matches!(written.into(), Standing::Unknown | Standing::Quarantined) {
            self.mirror.refresh().await?;
            written = write().await?;
        }
        match written.into() {
            Standing::Known => Ok(written),
            Standing::Unknown => Err(unknown(from)),
            Standing::Revoked => Err(revoked()),
            Standing::Quarantined => Err(quarantined()),
        }
    }
}

/// What an agent is told whose machine was revoked.
fn revoked() -> MetricsError {
    Problem::new(ProblemKind::Forbidden, "this machine was revoked").into()
}

/// What an agent over HTTP is told whose machine is quarantined.
fn quarantined() -> MetricsError {
    let detail = "this machine is quarantined: an operator has to release it";
    Problem::new(ProblemKind::Forbidden, detail).into()
}

/// What an agent is told whose machine the mirror does not know, even after a look: it keeps what it has.
fn unknown(from: AgentSender) -> MetricsError {
    tracing::info!(org = %from.org, machine = %from.machine, "a machine speaks that identity has not told of yet");
    Problem::unavailable("this machine is not known here yet").into()
}

//! Cutting the connections of revoked machines, by each replica that learns of it: a kick too many does no harm.

pub mod sweep;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bus::callout::SERVER_PATIENCE;
use bus::system::SystemBus;
use bus::{BusError, BusState};
use domain::{MachineId, OrgId};
use prometheus::IntCounter;
use tokio::sync::Semaphore;

use self::sweep::Target;
use crate::app::App;

/// How long to gather the servers' answers in the first look, which must be quick, and in later ones.
const GATHER_FIRST: Duration = Duration::from_millis(150);
const GATHER_LATER: Duration = Duration::from_millis(500);
/// An attempt that was admitted just before may become a connection until the server stops waiting.
const LAST_LOOK: Duration = SERVER_PATIENCE.saturating_add(Duration::from_secs(1));
/// How many looks run at once.
const LOOKS_AT_ONCE: usize = 64;
/// How long a sweep waits before it tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Cuts connections.
pub struct Kicker {
    system: SystemBus,
    looks: Semaphore,
    kicks: IntCounter,
}

impl Kicker {
    /// Cuts through this connection of the SYS account.
    #[must_use]
    pub fn new(system: SystemBus, kicks: IntCounter) -> Self {
        Self {
            system,
            looks: Semaphore::new(LOOKS_AT_ONCE),
            kicks,
        }
    }

    /// Cuts what connections one machine has now, on every server.
    async fn cut(&self, org: OrgId, machine: MachineId, gather: Duration) -> Result<(), BusError> {
        // The semaphore is never closed.
        let _permit = self.looks.acquire().await;
        let pages = self
            .system
            .connections(Some((org, machine)), 0, gather)
            .await?;
        for target in sweep::targets(&pages, &HashSet::from([(org, machine)])) {
            self.kick(target).await;
        }
        Ok(())
    }

    async fn kick(&self, target: Target) {
        let Target { server, cid, agent } = target;
        match self.system.kick(&server, cid).await {
            Ok(()) => {
                self.kicks.inc();
                tracing::info!(org = %agent.0, machine = %agent.1, cid, "a connection was cut");
            }
            Err(error) => tracing::warn!(%error, server, cid, "a kick was not answered"),
        }
    }

    /// Cuts all connections of all these machines.
    async fn sweep(&self, revoked: &HashSet<(OrgId, MachineId)>) -> Result<(), BusError> {
        let read = |offset| self.system.connections(None, offset, GATHER_LATER);
        sweep::run(revoked, read, |target| self.kick(target)).await
    }
}

impl App {
    /// Cuts a machine's connections now, in a quarter of a second again, and once more when nobody can be on the way in.
    pub(crate) fn kick(self: &Arc<Self>, org: OrgId, machine: MachineId) {
        let app = self.clone();
        self.shutdown.spawn_until_begun(async move {
            let mut waited = Duration::ZERO;
            for (at, gather) in [
                (Duration::ZERO, GATHER_FIRST),
                (Duration::from_millis(250), GATHER_LATER),
                (LAST_LOOK, GATHER_LATER),
            ] {
                tokio::time::sleep(at.saturating_sub(waited)).await;
                waited = at;
                if let Err(error) = app.kicker.cut(org, machine, gather).await {
                    tracing::warn!(%error, %machine, "a revoked machine's connections were not looked for");
                }
            }
        });
    }

    /// Looks once more for connections of a machine that was revoked before.
    pub(crate) fn kick_again(self: &Arc<Self>, org: OrgId, machine: MachineId) {
        let app = self.clone();
        self.shutdown.spawn(async move {
            if let Err(error) = app.kicker.cut(org, machine, GATHER_FIRST).await {
                tracing::warn!(%error, %machine, "a revoked machine's connections were not looked for");
            }
        });
    }

    /// Sweeps after each (re)connection of the SYS account, for ever: at once, and after the last look's time.
    pub async fn sweep_run(self: Arc<Self>) {
        let mut state = self.kicker.system.bus().state();
        loop {
            let seen = state.borrow_and_update().clone();
            let sweeps = async {
                if matches!(seen, BusState::Connected(_)) {
                    self.sweep_until_done().await;
                    tokio::time::sleep(LAST_LOOK).await;
                    self.sweep_until_done().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = sweeps => {}
            }
        }
    }

    async fn sweep_until_done(&self) {
        loop {
            if self.keys.is_loaded() {
                let revoked = self.keys.revoked();
                if revoked.is_empty() {
                    return;
                }
                match self.kicker.sweep(&revoked).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "the sweep waits for the bus"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

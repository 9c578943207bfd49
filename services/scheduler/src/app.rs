//! Decisions. For users: [`job`], [`handler`], [`execute`], [`execution`], [`change`], [`settings`], [`log`]. For workers:
//! [`session`], [`progress`], [`claim`], [`finish`], [`chunk`], [`act`]. What time does: [`reap`], [`due`], [`retention`]. Who is
//! offered what: [`dispatch`], with [`fair`] the order, [`window`] how much, and [`bell`] the doorbell. [`audit`] who did what.

use std::sync::atomic::{AtomicBool, Ordering};

use bus::Bus;
use contract::live::Live;
use database::{AuditRelay, GroupCommit, Pools, Relay};
use domain::OrgId;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::config::Timing;
use crate::metrics::Metrics;
use crate::store::claim::Claims;
use crate::store::finish::Finishes;

pub mod act;
pub mod audit;
pub mod bell;
pub mod change;
pub mod chunk;
pub mod claim;
pub mod dispatch;
pub mod due;
pub mod execute;
pub mod execution;
pub mod fair;
pub mod finish;
pub mod handler;
pub mod job;
pub mod log;
pub mod progress;
pub mod reap;
pub mod retention;
pub mod session;
pub mod settings;
pub mod window;

/// Everything that decisions need.
pub struct App {
    /// The bus.
    pub bus: Bus,
    /// The database.
    pub pools: Pools,
    /// The pools of workers that there are.
    pub worker_pools: Vec<String>,
    /// Claims, as a group commit.
    pub claims: GroupCommit<Claims>,
    /// The claims of requests in which somebody comes who had nothing offered: they do not wait until all others are committed.
    pub first_claims: GroupCommit<Claims>,
    /// Finishes, as a group commit.
    pub finishes: GroupCommit<Finishes>,
    /// Says that something waits, or was taken.
    pub bell: bell::Doorbell,
    /// Woken after a commit that left an event.
    pub relay: Relay,
    /// Woken after a commit that left an audit entry.
    pub audit_relay: AuditRelay,
    /// Counters.
    pub metrics: Metrics,
    /// How long things take.
    pub timing: Timing,
    /// This replica.
    pub replica: Uuid,
    /// Whether there are partitions for what ends.
    pub partitioned: AtomicBool,
    /// One is missing: make it now.
    pub maintain: Notify,
    /// Whether the server has taken the subscriptions: who asks is heard.
    pub answering: AtomicBool,
}

impl App {
    /// What is missing to work; `None` when nothing is.
    pub async fn missing(&self) -> Option<String> {
        let missing = owner::missing(&self.bus, &self.pools, &self.answering).await;
        let partitioned = self.partitioned.load(Ordering::Relaxed);
        missing.or_else(|| (!partitioned).then(|| "there are no partitions yet".into()))
    }

    /// Tells those who look on how an execution is now: what changed of it, with its `id`. After the commit; never
    /// fails.
    pub(crate) async fn show(&self, org: OrgId, id: Uuid, data: serde_json::Value) {
        let live = Live {
            noun: "execution".into(),
            data,
        };
        let token = id.simple().to_string();
        if let Err(error) = self.bus.publish_live(org, "execution", &token, &live).await {
            tracing::debug!(%error, "nobody looks on");
        }
    }
}

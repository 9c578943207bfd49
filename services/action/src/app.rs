//! Decisions: [`create`], [`fan_out`], [`cancel`], [`read`] for users ([`draft`] what they want done, [`selection`] by
//! which machines); [`report`], [`sync`] for agents, [`legacy`] for those over HTTP; [`ring`] the doorbell, [`signer`] what
//! agents obey, [`mirror`] machines as others know them, [`deadline`] what time does, [`quarantine`] telling identity,
//! [`audit`] who did what.

use std::sync::atomic::AtomicBool;

use bus::Bus;
use contract::live::Live;
use database::{AuditRelay, GroupCommit, Pools, Relay};
use domain::action::ActionStatus;

use crate::metrics::Metrics;
use crate::store::report::Reports;
use crate::store::row::ActionRow;

pub mod audit;
pub mod cancel;
pub mod create;
pub mod deadline;
pub mod draft;
pub mod fan_out;
pub mod legacy;
pub mod mirror;
pub mod quarantine;
pub mod read;
pub mod report;
pub mod ring;
pub mod selection;
pub mod signer;
pub mod sync;

/// Everything that decisions need.
pub struct App {
    /// The bus.
    pub bus: Bus,
    /// The database.
    pub pools: Pools,
    /// Signs orders.
    pub signer: signer::Signer,
    /// The hot write path.
    pub reports: GroupCommit<Reports>,
    /// Woken after a commit that left an event.
    pub relay: Relay,
    /// Woken after a commit that left an audit entry.
    pub audit_relay: AuditRelay,
    /// What this process signed of the audit.
    pub witness: audit::witness::Witness,
    /// Counters.
    pub metrics: Metrics,
    /// Wakes those who follow identity's and metrics' feeds.
    pub mirror: mirror::Doorbell,
    /// Who may ring for many actions now.
    pub ringing: fan_out::Turns,
    /// Whether the server has taken the subscriptions: who asks is heard.
    pub answering: AtomicBool,
}

impl App {
    /// What is missing to work; `None` when nothing is.
    pub async fn missing(&self) -> Option<String> {
        let missing = owner::missing(&self.bus, &self.pools, &self.answering).await;
        let unknown = "identity has not taken the signing keys yet";
        missing.or_else(|| (!self.signer.is_ready()).then(|| unknown.into()))
    }

    /// Tells those who look on what an action is now, and counts its end. After the commit; never fails.
    pub(crate) async fn show(&self, row: &ActionRow) {
        if row.status.parse().is_ok_and(ActionStatus::is_terminal) {
            self.metrics.ended.with_label_values(&[&row.status]).inc();
            self.relay.wake();
        }
        let org = row.org();
        let id = domain::ActionId(row.id).token();
        let Ok(action) = row.clone().view() else {
            return;
        };
        let Ok(data) = serde_json::to_value(&action) else {
            return;
        };
        if let Err(error) = self
            .bus
            .publish_live(
                org,
                "action",
                &id,
                &Live {
                    noun: "action".into(),
                    data,
                },
            )
            .await
        {
            tracing::debug!(%error, "nobody looks on");
        }
    }
}

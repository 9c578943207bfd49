//! The doorbell: a signed order, pushed. Losing it changes nothing but time.

use std::sync::Arc;
use std::time::Duration;

use contract::order::{Task, Verb};
use contract::subject;
use domain::{ActionId, MachineId, OrgId, Timestamp};

use crate::app::App;
use crate::error::ActionError;
use crate::store::deadline;
use crate::store::row::ActionRow;

/// How often the list of due rings is read.
const TICK: Duration = Duration::from_millis(250);
/// The most rings of one tick.
const LIMIT: i64 = 500;

impl App {
    /// Rings for an action. A failure is logged: it rings again.
    pub async fn ring(&self, row: &ActionRow, fingerprint: &str, verb: Verb) {
        match row.task() {
            Ok(task) => {
                self.ring_task(row.org(), row.machine(), fingerprint, verb, task)
                    .await;
            }
            Err(error) => silent(&error, ActionId(row.id)),
        }
    }

    /// Rings with a task that needs no row. A failure is logged: it rings again.
    pub async fn ring_task(
        &self,
        org: OrgId,
        machine: MachineId,
        fingerprint: &str,
        verb: Verb,
        task: Task,
    ) {
        let action = task.action;
        if let Err(error) = self
            .order(org, machine, fingerprint, verb, Some(task))
            .await
        {
            silent(&error, action);
        }
    }

    /// Asks a machine to sync.
    pub async fn ring_for_sync(&self, org: OrgId, machine: MachineId, fingerprint: &str) {
        if let Err(error) = self
            .order(org, machine, fingerprint, Verb::Time, None)
            .await
        {
            tracing::debug!(%error, %machine, "the machine was not asked to sync");
        }
    }

    /// Tells a machine which keys sign orders from now on. Lost, it is told again at its next sync.
    pub async fn ring_for_keys(&self, org: OrgId, machine: MachineId, fingerprint: &str) {
        match self
            .order(org, machine, fingerprint, Verb::Keys, None)
            .await
        {
            Ok(()) => tracing::info!(%machine, "the machine is told of the new signing keys"),
            Err(error) => tracing::debug!(%error, %machine, "the machine was not told of the keys"),
        }
    }

    async fn order(
        &self,
        org: OrgId,
        machine: MachineId,
        fingerprint: &str,
        verb: Verb,
        task: Option<Task>,
    ) -> Result<(), ActionError> {
        // A machine over HTTP has no key, hears nothing, and asks by itself.
        if fingerprint.is_empty() {
            return Ok(());
        }
        let order = self.signer.order(org, machine, fingerprint, verb, task)?;
        self.bus
            .publish(subject::act(org, machine, verb), order)
            .await?;
        self.metrics.rings.with_label_values(&[verb.as_str()]).inc();
        Ok(())
    }
}

fn silent(error: &ActionError, action: ActionId) {
    tracing::warn!(%error, %action, "the doorbell did not ring");
}

/// Rings again what was not accepted, for ever.
pub async fn tick(app: Arc<App>) {
    loop {
        tokio::time::sleep(TICK).await;
        if !app.bus.is_connected() {
            continue;
        }
        if let Err(error) = ring_due(&app).await {
            tracing::debug!(%error, "nothing rings for now");
        }
    }
}

async fn ring_due(app: &App) -> Result<(), ActionError> {
    let mut tx = app.pools.system_tx().await?;
    let due = deadline::actions_ring_in_tx(&mut tx, Timestamp::now().utc(), LIMIT).await?;
    tx.commit().await?;
    for due in due {
        if due.action.status == "QUEUED" {
            app.ring(&due.action, &due.fingerprint, Verb::New).await;
        }
        if due.action.cancel_requested_at.is_some() {
            app.ring(&due.action, &due.fingerprint, Verb::Cancel).await;
        }
    }
    Ok(())
}

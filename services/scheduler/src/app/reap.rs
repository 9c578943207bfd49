//! Sessions that have expired: what they had begins again elsewhere.

use std::sync::Arc;

use domain::execution::Outcome;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::finish::Moved;
use crate::store::session;

/// How many sessions one look ends; the others wait for the next.
const SESSIONS_MAX: usize = 1_000;

/// Looks for ever. One replica at a time does.
pub async fn tick(app: Arc<App>) {
    loop {
        tokio::time::sleep(app.timing.reap_every).await;
        if let Err(error) = app.reap().await {
            tracing::debug!(%error, "expired sessions stay for now");
        }
    }
}

impl App {
    async fn reap(&self) -> Result<(), SchedulerError> {
        let timing = self.timing;
        let mut tx = self.pools.system_tx().await?;
        let turn = session::reap_turn_in_tx(&mut tx, timing.reap_every, timing.stall, timing.lease)
            .await?;
        tx.commit().await?;
        match turn {
            None => return Ok(()),
            Some(true) => {
                tracing::warn!(
                    "nobody looked at sessions for a while: each is given a whole lease"
                );
                return Ok(());
            }
            Some(false) => {}
        }
        let mut failed = Vec::new();
        for _ in 0..SESSIONS_MAX {
            let began = Instant::now();
            let Some(moved) = self.reap_one(&mut failed).await? else {
                return Ok(());
            };
            self.told(&moved, began).await;
        }
        Ok(())
    }

    /// Ends one session; one that cannot be ended now is noted, and holds back no other.
    async fn reap_one(&self, failed: &mut Vec<Uuid>) -> Result<Option<Vec<Moved>>, SchedulerError> {
        let mut tx = self.pools.system_tx().await?;
        let Some(id) = session::session_expired_in_tx(&mut tx, failed).await? else {
            return Ok(None);
        };
        let moved = match self.give_up_in_tx(&mut tx, id, Outcome::Lost).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::warn!(%error, session = %id, "an expired session cannot be ended now");
                failed.push(id);
                return Ok(Some(Vec::new()));
            }
        };
        tx.commit().await?;
        self.metrics.leases_lost.inc();
        tracing::warn!(session = %id, executions = moved.len(), "a worker was lost; what it had begins again");
        Ok(Some(moved))
    }
}

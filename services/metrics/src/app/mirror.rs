//! The mirror of identity's machines: read every second, and at once when an event rings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::Problem;
use contract::identity::{MachineChanges, MachineRecord};
use domain::{MachineId, OrgId};
use tokio::sync::{Notify, watch};

use crate::app::App;
use crate::error::MetricsError;
use crate::metrics::{Count, Level};
use crate::store;

/// The most changes of one question. Each has up to 64 labels, and an answer must fit into a message.
const PAGE: u32 = 200;
/// How long identity may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where to ask that identity be asked.
#[derive(Debug)]
pub struct Mirror {
    wake: Notify,
    rounds: watch::Sender<Rounds>,
}

/// How many rounds have begun, and how many ended well.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    begun: u64,
    done: u64,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            rounds: watch::Sender::new(Rounds::default()),
        }
    }
}

impl Mirror {
    /// There may be something new.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a round that begins after now: what identity has committed by now is here then. Many may wait for
    /// one round.
    ///
    /// # Errors
    /// UNAVAILABLE when identity does not answer in time.
    pub async fn refresh(&self) -> Result<(), Problem> {
        let mut rounds = self.rounds.subscribe();
        let next = rounds.borrow_and_update().begun + 1;
        self.wake();
        let done = rounds.wait_for(|rounds| rounds.done >= next);
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Problem::unavailable(
                "identity is away, and what it knows of this machine is not known here yet",
            )),
        }
    }
}

/// Reads changes for ever.
pub async fn run(app: Arc<App>) {
    loop {
        let mut begun = 0;
        app.mirror.rounds.send_modify(|rounds| {
            rounds.begun += 1;
            begun = rounds.begun;
        });
        match app.mirror_catch_up().await {
            Ok(()) => {
                app.readiness.mirror_loaded();
                app.mirror.rounds.send_modify(|rounds| rounds.done = begun);
            }
            Err(error) => tracing::debug!(%error, "identity's machines could not be read"),
        }
        let _woken = tokio::time::timeout(app.timing.mirror, app.mirror.wake.notified()).await;
    }
}

impl App {
    /// Takes over everything that changed since the cursor. Replicas may do so at once: an older change of a machine
    /// than the one that is here changes nothing, and the cursor never goes back.
    ///
    /// # Errors
    /// [`MetricsError`] when identity or the database is away.
    pub async fn mirror_catch_up(&self) -> Result<(), MetricsError> {
        let mut after = store::mirror::position(self.pools.system()).await?;
        loop {
            let page = self
                .bus
                .service_call(&MachineChanges { after, limit: PAGE }, None, PATIENCE)
                .await?;
            let Some(position) = page.items.iter().map(|record| record.change).max() else {
                return Ok(());
            };
            self.mirror_apply(&page.items, position).await?;
            if !page.more || position <= after {
                return Ok(());
            }
            after = position;
        }
    }

    async fn mirror_apply(
        &self,
        records: &[MachineRecord],
        position: i64,
    ) -> Result<(), MetricsError> {
        let mut newest = HashMap::<(OrgId, MachineId), &MachineRecord>::new();
        for record in records {
            let kept = newest
                .entry((record.org, record.machine_id))
                .or_insert(record);
            if kept.change < record.change {
                *kept = record;
            }
        }
        let records: Vec<_> = newest.into_values().collect();
        let mut tx = self.pools.system_tx().await?;
        // A machine may have connected before it was known: then it is online now.
        store::presence::lock_in_tx(&mut tx).await?;
        let changed = store::mirror::apply_in_tx(&mut tx, &records).await?;
        let machines: Vec<_> = changed
            .iter()
            .map(|(org, machine, _, _)| (OrgId(*org), MachineId(*machine)))
            .collect();
        let came = store::presence::decide_in_tx(&mut tx, &machines, self.timing.graces).await?;
        store::mirror::set_position_in_tx(&mut tx, position).await?;
        tx.commit().await?;
        self.metrics.add(Count::MirrorChanges, changed.len() as u64);
        self.metrics.set(Level::MirrorChange, position);
        self.presence_announce(&came).await;
        for (org, machine, status, reason) in &changed {
            if !came.iter().any(|change| change.id == *machine) {
                self.machine_announce((*org).into(), (*machine).into(), status, reason.as_deref())
                    .await;
            }
        }
        Ok(())
    }
}

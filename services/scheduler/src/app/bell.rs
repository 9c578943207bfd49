//! The doorbell of dispatchers: something waits, an offer is answered. Heard in this process at once and by the other replicas over
//! the bus; lost, nothing is lost but time (law L1).

use bus::Bus;
use contract::work::{BELL, BELL_MAX, Bell, Lane, Made, Wanted};
use domain::ExecutionId;
use futures::StreamExt;
use tokio::sync::broadcast;
use uuid::Uuid;

/// Rings that a dispatcher may be behind; it looks around when it misses some.
const BEHIND_MAX: usize = 4_096;

/// Rings for all pools. Clones share it.
#[derive(Clone)]
pub struct Doorbell {
    bus: Bus,
    replica: Uuid,
    here: broadcast::Sender<Bell>,
}

impl Doorbell {
    /// A doorbell that nobody hears yet.
    #[must_use]
    pub fn new(bus: &Bus, replica: Uuid) -> Self {
        Self {
            bus: bus.clone(),
            replica,
            here: broadcast::channel(BEHIND_MAX).0,
        }
    }

    /// Hears what this process and the others ring, from now on.
    #[must_use]
    pub fn hear(&self) -> broadcast::Receiver<Bell> {
        self.here.subscribe()
    }

    /// After a commit: something waits in these lanes of a pool.
    pub async fn waits(&self, pool: &str, lanes: impl IntoIterator<Item = Lane>) {
        let lanes: std::collections::BTreeSet<Lane> = lanes.into_iter().collect();
        let bell = Bell {
            from: self.replica,
            pool: pool.to_owned(),
            lanes: lanes.into_iter().take(BELL_MAX).collect(),
            ..Bell::default()
        };
        self.ring(bell).await;
    }

    /// After a commit: these were made, and may begin for all that is known.
    pub(crate) async fn made(&self, pool: &str, made: Vec<Made>) {
        let bell = Bell {
            from: self.replica,
            pool: pool.to_owned(),
            made,
            ..Bell::default()
        };
        self.ring(bell).await;
    }

    /// After a claim: these offers are answered, and so many who claimed them wants to be out.
    pub(crate) async fn answered(
        &self,
        pool: &str,
        begun: Vec<ExecutionId>,
        refused: Vec<ExecutionId>,
        wanted: Wanted,
    ) {
        let bell = Bell {
            from: self.replica,
            pool: pool.to_owned(),
            begun: begun.into_iter().take(BELL_MAX).collect(),
            refused: refused.into_iter().take(BELL_MAX).collect(),
            wanted: Some(wanted),
            ..Bell::default()
        };
        self.ring(bell).await;
    }

    async fn ring(&self, bell: Bell) {
        match serde_json::to_vec(&bell) {
            Ok(payload) => {
                if let Err(error) = self.bus.publish(BELL.to_owned(), payload).await {
                    tracing::debug!(%error, "the other replicas hear nothing");
                }
            }
            Err(error) => tracing::error!(%error, "a doorbell could not be encoded"),
        }
        // Nobody hears it while no dispatcher runs.
        drop(self.here.send(bell));
    }

    /// Passes on what other replicas ring, for ever.
    pub async fn listen(self) {
        loop {
            match self.bus.subscribe(BELL).await {
                Ok(mut bells) => {
                    while let Some(message) = bells.next().await {
                        match serde_json::from_slice::<Bell>(&message.payload) {
                            // Nobody hears it while no dispatcher runs; its own it has heard.
                            Ok(bell) if bell.from != self.replica => drop(self.here.send(bell)),
                            Ok(_) => {}
                            Err(error) => tracing::warn!(%error, "a doorbell that cannot be read"),
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "no doorbells for now"),
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

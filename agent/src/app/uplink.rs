//! Samples and inventory on their way to the server: kept until it says that they are written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff;
use crate::clock::Clock;
use crate::collect::inventory::digest;
use crate::collect::sampler::Sampler;
use crate::collect::watch::Watch;
use crate::state::files::write_atomic;
use bus::{Bus, BusState};
use contract::agent::{Inventory, Noted, Sample, SampleAnswer, SampleBatch};
use contract::subject::{Up, up};
use contract::{Problem, ProblemKind};
use domain::{MachineId, OrgId, Timestamp};

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long samples wait, on each connection, for the server's word what time it is; it comes with the first answer to
/// `sync`. Where that takes longer than half a minute they go with the times that they have.
const WORD_PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked for it meanwhile.
const WORD_POLL: Duration = Duration::from_millis(20);

/// What is needed to tell the server what the machine is, and only when that changed.
#[derive(Debug)]
pub struct InventoryKeeper {
    /// Who looks.
    pub watch: Watch<Inventory>,
    /// Remembers which one the server noted.
    pub file: PathBuf,
    /// How often it is looked at.
    pub period: Duration,
}

/// The way up.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// The bus.
    pub bus: Bus,
    /// The machine's organisation.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
}

/// Waits until the server has said what time it is, or has not for too long.
async fn told(clock: &Clock) {
    let begun = Instant::now();
    while !clock.is_told() && begun.elapsed() < WORD_PATIENCE {
        tokio::time::sleep(WORD_POLL).await;
    }
}

/// Whether the same message would be refused again.
fn is_final(problem: &Problem) -> bool {
    matches!(problem.kind, ProblemKind::Invalid | ProblemKind::TooLarge)
}

impl Uplink {
    /// Sends samples for ever: at once while the server answers, what was missed when it answers again. First of all
    /// the server is to say what time it is: it takes no sample of a wrong clock, and none that it has refused is dated
    /// anew. What was sent all the same, and not answered, is sent again with the time that it had: the server knows it
    /// by that.
    pub async fn samples(self, sampler: Sampler, clock: Arc<Clock>) {
        let mut state = self.bus.state();
        let mut tries = 0;
        let mut waited_on = None;
        loop {
            let connected = state
                .wait_for(|state| matches!(state, BusState::Connected(_)))
                .await
                .map(|state| state.clone());
            let Ok(connection) = connected else {
                return;
            };
            if waited_on.as_ref() != Some(&connection) {
                told(&clock).await;
                waited_on = Some(connection);
            }
            let samples = sampler.batch().await;
            if samples.is_empty() {
                sampler.news().await;
                continue;
            }
            match self.send(&samples, &sampler).await {
                Ok(through) => {
                    tries = 0;
                    sampler.acknowledge(through);
                }
                Err(problem) => {
                    tracing::debug!(%problem, samples = samples.len(), "samples are not written yet");
                    // A new connection is worth a new try at once.
                    tokio::select! {
                        () = tokio::time::sleep(backoff::pause(tries)) => {}
                        changed = state.changed() => if changed.is_err() { return },
                    }
                    tries += 1;
                }
            }
        }
    }

    async fn send(&self, samples: &[Sample], sampler: &Sampler) -> Result<Timestamp, Problem> {
        let subject = || up(self.org, self.machine, Up::Metrics);
        let whole = SampleBatch {
            samples: samples.to_vec(),
        };
        let answer = match self
            .bus
            .agent_request::<_, SampleAnswer>(subject(), self.org, &whole, TIMEOUT)
            .await
        {
            Err(problem) if is_final(&problem) => {
                // One of them cannot be taken: the oldest alone shows whether it is that one.
                let Some(first) = samples.first() else {
                    return Err(problem);
                };
                let one = SampleBatch {
                    samples: vec![first.clone()],
                };
                match self
                    .bus
                    .agent_request::<_, SampleAnswer>(subject(), self.org, &one, TIMEOUT)
                    .await
                {
                    Err(problem) if is_final(&problem) => {
                        tracing::warn!(%problem, at = %first.at, "a sample is refused for good and dropped");
                        sampler.refused(1);
                        return Ok(first.at);
                    }
                    answer => answer?,
                }
            }
            answer => answer?,
        };
        if answer.refused > 0 {
            tracing::warn!(refused = answer.refused, "samples were refused for good");
            sampler.refused(u64::from(answer.refused));
        }
        // Nothing is forgotten that was not sent, whatever the answer says.
        samples
            .last()
            .map(|last| answer.through.min(last.at))
            .ok_or_else(|| Problem::unavailable("no samples"))
    }

    /// Looks at what the machine is now and then, while the connection lasts, and sends it when it is not what the server
    /// last noted.
    pub async fn inventory(self, keeper: Arc<InventoryKeeper>) {
        let mut tries = 0;
        while self.bus.is_connected() {
            let looked = keeper.watch.look().await;
            let again = match looked {
                Ok(inventory) => self.inventory_send(&inventory, &keeper.file).await,
                Err(reason) => {
                    tracing::warn!(reason, "what the machine is cannot be looked at");
                    false
                }
            };
            if again {
                tokio::time::sleep(backoff::pause(tries)).await;
                tries += 1;
            } else {
                tries = 0;
                tokio::time::sleep(backoff::jittered(keeper.period)).await;
            }
        }
    }

    /// Whether it is to be tried again soon.
    async fn inventory_send(&self, inventory: &Inventory, file: &Path) -> bool {
        let digest = digest(inventory);
        if std::fs::read_to_string(file).is_ok_and(|noted| noted.trim() == digest) {
            return false;
        }
        let subject = up(self.org, self.machine, Up::Inventory);
        match self
            .bus
            .agent_request::<_, Noted>(subject, self.org, inventory, TIMEOUT)
            .await
        {
            Ok(_) => {
                if let Err(error) = write_atomic(file, digest.as_bytes()) {
                    tracing::warn!(%error, "the inventory will be sent again");
                }
                false
            }
            Err(problem) if is_final(&problem) => {
                tracing::warn!(%problem, "the inventory is refused for good");
                false
            }
            Err(problem) => {
                tracing::debug!(%problem, "the inventory is not noted yet");
                true
            }
        }
    }
}

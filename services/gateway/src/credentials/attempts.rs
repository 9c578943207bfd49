//! What the gateway itself refuses somebody whom identity knows, on its way into the audit.
//!
//! The gateway has no database, and nobody takes its word for who somebody is: it tells identity with the caller's own
//! grant (`audit.refused`), so that whoever has the gateway's key and no credential notes nothing. What is refused again is
//! counted here and told once a second for each credential, operation and reason; identity folds it by the minute, as every
//! refused attempt. Noting costs a look into a map: it makes no request fail or wait.
//!
//! While identity is away it waits, for as long as the grant holds (at most five minutes, after which nobody gets this far
//! any more); what is then still untold only the log has.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Bus;
use contract::audit::{AuditRefused, REFUSED_MAX, TurnedAway};
use domain::CredentialId;
use futures::StreamExt;
use runtime::Shutdown;
use tokio::sync::Notify;

use super::Granted;
use crate::address;

/// How many kinds of attempts are counted at once; of what is more only the log says how often it was.
const KINDS_MAX: usize = 1_024;
/// How many are told at the same time.
const AT_ONCE: usize = 8;
/// How often what was counted is told.
const TICK: Duration = Duration::from_secs(1);
/// How long the last of them may take when the gateway ends.
const LAST_MAX: Duration = Duration::from_secs(1);

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    credential: CredentialId,
    operation: String,
    reason: TurnedAway,
}

/// Attempts of one kind that identity does not know of.
struct Untold {
    /// The grant of the last of them.
    granted: Arc<Granted>,
    /// Where that one came from.
    address: IpAddr,
    count: u32,
}

#[derive(Default)]
struct Memory {
    untold: HashMap<Kind, Untold>,
    lost: u64,
}

/// Refused attempts that identity is to be told of. Shared by all requests.
pub struct Attempts {
    bus: Bus,
    timeout: Duration,
    memory: Mutex<Memory>,
    wake: Notify,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").finish_non_exhaustive()
    }
}

impl Attempts {
    /// None yet. `timeout` is how long identity may take to answer.
    #[must_use]
    pub fn new(bus: &Bus, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            bus: bus.clone(),
            timeout,
            memory: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Notes that a caller from this address was refused this operation.
    pub fn note(
        &self,
        granted: &Arc<Granted>,
        address: IpAddr,
        operation: String,
        reason: TurnedAway,
    ) {
        let kind = Kind {
            credential: granted.credential,
            operation,
            reason,
        };
        let attempt = Untold {
            granted: granted.clone(),
            address,
            count: 1,
        };
        self.add(kind, attempt);
    }

    fn add(&self, kind: Kind, attempt: Untold) {
        let mut memory = self.memory();
        if let Some(known) = memory.untold.get_mut(&kind) {
            known.count = known.count.saturating_add(attempt.count).min(REFUSED_MAX);
            // The later grant holds longer.
            if known.granted.expires_at <= attempt.granted.expires_at {
                known.granted = attempt.granted;
                known.address = attempt.address;
            }
        } else if memory.untold.len() < KINDS_MAX {
            memory.untold.insert(kind, attempt);
        } else {
            memory.lost += u64::from(attempt.count);
        }
        drop(memory);
        self.wake.notify_one();
    }

    /// Tells identity until the shutdown begins, and then what is left.
    pub fn run(self: &Arc<Self>, shutdown: &Shutdown) {
        let (this, stop) = (self.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let over = async {
                stop.begun().await;
                tokio::time::sleep(LAST_MAX).await;
            };
            tokio::select! {
                () = this.tell_until(&stop) => {}
                () = over => tracing::warn!("the last refused attempts are not in the audit"),
            }
        });
    }

    async fn tell_until(&self, stop: &Shutdown) {
        while !stop.has_begun() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = stop.begun() => {}
            }
            self.tell().await;
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = stop.begun() => {}
            }
        }
        self.tell().await;
    }

    /// Tells identity what it does not know yet, once.
    async fn tell(&self) {
        let Memory { untold, lost } = std::mem::take(&mut *self.memory());
        if lost > 0 {
            tracing::warn!(lost, "refused attempts were too many to be told");
        }
        futures::stream::iter(untold)
            .for_each_concurrent(AT_ONCE, |(kind, attempt)| self.tell_one(kind, attempt))
            .await;
    }

    async fn tell_one(&self, kind: Kind, attempt: Untold) {
        let refused = AuditRefused {
            operation: kind.operation.clone(),
            reason: kind.reason,
            count: attempt.count,
        };
        let grant = attempt.granted.token.as_str();
        let call = self.bus.gateway_call(&refused, Some(grant), self.timeout);
        let from = address::known(attempt.address);
        let Err(problem) = bus::client::on_behalf_of(from, call).await else {
            return;
        };
        if problem.is_lasting() || !attempt.granted.holds() {
            tracing::warn!(
                credential = %kind.credential,
                operation = kind.operation,
                count = attempt.count,
                %problem,
                "a refused attempt is not in the audit"
            );
            return;
        }
        self.add(kind, attempt);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while it is held; if something did, the counts are still whole.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Who may connect. The proof of possession has been verified; what is left is whose key it is, and how often it comes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bus::callout::{Admitted, Attempt};
use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use domain::MachineId;
use domain::network::neighbour;
use rand::Rng;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::app::buckets::Buckets;
use crate::app::key_set::Member;
use crate::metrics::CalloutOutcome;
use crate::store;

/// Life of an agent's JWT. Its expiry closes the connection, so it is spread: a fleet must not return as one.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
const LIFETIME_SPREAD: f64 = 0.25;
/// Attempts per address: a site behind one address must be able to return whole.
const ATTEMPTS_AT_ONCE: u32 = 20_000;
const ATTEMPTS_PER_SECOND: f64 = 2_000.0;
/// Attempts per address with keys that the set does not have: each costs a look into the database.
const STRANGERS_AT_ONCE: u32 = 200;
const STRANGERS_PER_SECOND: f64 = 20.0;
/// Attempts per machine. An agent comes back once in a while; each time costs metrics a row and a decision.
const RETURNS_AT_ONCE: u32 = 20;
const RETURNS_PER_SECOND: f64 = 1.0;
/// How many addresses, and machines, are remembered.
const REMEMBERED: usize = 65_536;
/// How many looks for unknown keys run at once, how many wait for their turn, and how long one may take, waiting
/// included. Those who wait hold places of the callout, which the known keys need too.
const LOOKS_AT_ONCE: usize = 4;
const LOOKERS_MAX: usize = 64;
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Limits of the callout.
pub struct Gate {
    attempts: Buckets<String>,
    strangers: Buckets<String>,
    returns: Buckets<MachineId>,
    looks: Semaphore,
    lookers: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            attempts: Buckets::new(ATTEMPTS_AT_ONCE, ATTEMPTS_PER_SECOND, REMEMBERED),
            strangers: Buckets::new(STRANGERS_AT_ONCE, STRANGERS_PER_SECOND, REMEMBERED),
            returns: Buckets::new(RETURNS_AT_ONCE, RETURNS_PER_SECOND, REMEMBERED),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            lookers: Semaphore::new(LOOKERS_MAX),
        }
    }
}

impl App {
    /// As whom somebody may connect. A quarantined machine may: nothing is offered to it.
    ///
    /// # Errors
    /// The refusal, for the server's log.
    pub async fn callout(&self, attempt: &Attempt) -> Result<Admitted, String> {
        let timer = self.metrics.callout_duration.start_timer();
        let decided = self.callout_decided(attempt).await;
        timer.observe_duration();
        match decided {
            Ok(member) => {
                self.metrics.callout(CalloutOutcome::Admitted);
                Ok(Admitted {
                    org: member.org,
                    machine: member.machine,
                    lifetime: lifetime(),
                })
            }
            Err((outcome, refusal)) => {
                self.metrics.callout(outcome);
                let (key, host) = (&attempt.public_key, &attempt.host);
                tracing::info!(key, host, refusal, "an agent was not let in");
                Err(refusal.to_owned())
            }
        }
    }

    async fn callout_decided(
        &self,
        attempt: &Attempt,
    ) -> Result<Member, (CalloutOutcome, &'static str)> {
        let (now, from) = (Instant::now(), origin(&attempt.host));
        if self.gate.attempts.take(&from, now).is_err() {
            return Err((
                CalloutOutcome::Limited,
                "too many attempts from this address",
            ));
        }
        let member = match self.keys.get(&attempt.public_key) {
            Some(member) => member,
            None if self.gate.strangers.take(&from, now).is_err() => {
                return Err((
                    CalloutOutcome::Limited,
                    "too many unknown keys from this address",
                ));
            }
            None => self
                .look(&attempt.public_key)
                .await
                .ok_or((CalloutOutcome::Unknown, "unknown key"))?,
        };
        if member.revoked {
            self.denials.note(revoked(&member, &attempt.host));
            Err((CalloutOutcome::Revoked, "revoked"))
        } else if self.gate.returns.take(&member.machine, now).is_err() {
            Err((CalloutOutcome::Limited, "this machine comes back too often"))
        } else {
            Ok(member)
        }
    }

    /// A key that is not in the set may have enrolled at another replica a moment ago.
    async fn look(&self, public_key: &str) -> Option<Member> {
        if !self.feed.database_answers() {
            return None;
        }
        let _place = self.gate.lookers.try_acquire().ok()?;
        let look = async {
            let _permit = self.gate.looks.acquire().await.ok()?;
            match store::machine::key(self.pools.system(), public_key).await {
                Ok(row) => row,
                Err(error) => {
                    tracing::debug!(%error, "an unknown key was not looked up");
                    None
                }
            }
        };
        let row = tokio::time::timeout(LOOK_MAX, look).await.ok().flatten()?;
        self.keys.apply(&row);
        self.keys.get(public_key)
    }
}

/// A machine that was revoked comes back: it, or whoever has its key.
fn revoked(member: &Member, host: &str) -> AuditEntry {
    let actor = Actor::of(ActorKind::Machine, member.machine.0);
    let resource = Resource::of("machine", member.machine);
    let entry = AuditEntry::new(member.org, actor, "machine.connect", resource);
    AuditEntry {
        address: host.parse().ok(),
        ..entry.denied("this machine was revoked")
    }
}

/// Whom a limit counts: the neighbour that an address belongs to, or what the server says instead of an address.
fn origin(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(
        |_| host.to_owned(),
        |address| neighbour(address).to_string(),
    )
}

fn lifetime() -> Duration {
    let spread = rand::rng().random_range(1.0 - LIFETIME_SPREAD..=1.0 + LIFETIME_SPREAD);
    LIFETIME.mul_f64(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_counted_as_one() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("192.0.2.1"), "192.0.2.1");
        assert_eq!(origin("in-process"), "in-process");
    }

    #[test]
    fn lifetimes_are_spread_around_a_day() {
        let hours: Vec<f64> = (0..1_000)
            .map(|_| lifetime().as_secs_f64() / 3_600.0)
            .collect();
        assert!(hours.iter().all(|hours| (18.0..=30.0).contains(hours)));
        assert!(hours.iter().any(|hours| *hours < 20.0) && hours.iter().any(|hours| *hours > 28.0));
    }
}

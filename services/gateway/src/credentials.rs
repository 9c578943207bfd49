//! From a credential to a grant. Identity is asked once for a credential and minute; a revocation that is pushed ends
//! what is remembered at once. While identity is away, its last word holds until the grant expires.

pub mod attempts;
pub mod principal;
pub mod revocations;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus::Bus;
use contract::identity::{Exchange, Exchanged};
use contract::{Problem, ProblemKind};
use domain::network::Network;
use domain::{CredentialId, OrgId, Timestamp};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tracing::Instrument;
use uuid::Uuid;

use self::attempts::Attempts;
use crate::address;
use crate::config::Config;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::limits::Limits;
use crate::limits::class::Class;
use crate::limits::paces::Paces;
use crate::limits::recent::Recent;
use crate::metrics::{GrantOutcome, Metrics};

/// How many credentials are remembered.
const REMEMBERED: usize = 16_384;
/// How long a refusal is remembered.
const REFUSAL_FRESH: Duration = Duration::from_secs(1);
/// After identity did not answer, its last word is used this long before it is asked again.
const KEPT_FRESH: Duration = Duration::from_secs(1);
/// How long it may take when its last word still holds: nobody should wait long for what is known.
const RENEW_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest credential.
const CREDENTIAL_MAX_BYTES: usize = 512;
/// How many doubts wait for whoever hears of them; who misses one has to doubt.
const DOUBTS_MAX: usize = 256;
/// What credentials begin with: access tokens, API keys, legacy keys.
const PREFIXES: [&str; 3] = ["dfa_", "dfk_", "dfl_"];

type Hash = [u8; 32];
type Answer = Result<Arc<Granted>, Problem>;
type Asking = Shared<BoxFuture<'static, Answer>>;

/// A grant and what goes with it. It is never logged.
pub struct Granted {
    /// The signed token.
    pub token: String,
    /// What it was exchanged for.
    pub credential: CredentialId,
    /// The organisation.
    pub org: OrgId,
    /// The person who logged in; nothing for a key.
    pub person: Option<Uuid>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// How fast its credential goes, and the person behind it.
    pub paces: Paces,
    /// From where a key is taken; from everywhere when absent.
    pub networks: Option<Vec<Network>>,
    /// Whether the credential is a legacy key.
    pub legacy: bool,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

fn revoked() -> Problem {
    Problem::new(ProblemKind::Unauthenticated, "the credential was revoked")
}

/// Networks as they are kept. What cannot be read is no network, so it lets nobody in; the log says so, for whoever
/// wonders why a key is refused.
fn networks(credential: CredentialId, texts: Option<&Vec<String>>) -> Option<Vec<Network>> {
    let read = |text: &String| match text.parse::<Network>() {
        Ok(network) => Some(network),
        Err(error) => {
            tracing::warn!(%credential, network = text.as_str(), %error, "a network of this key cannot be read, and lets nobody in");
            None
        }
    };
    texts.map(|texts| texts.iter().filter_map(read).collect())
}

impl Granted {
    /// Whether the credential is taken from this address. One that is bound to networks, however wide, is taken from none
    /// that is unknown.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| {
            address::known(address)
                .is_some_and(|address| networks.iter().any(|network| network.contains(address)))
        })
    }

    fn holds(&self) -> bool {
        Timestamp::now() < self.expires_at
    }
}

#[derive(Debug)]
struct Entry {
    granted: Arc<Granted>,
    fresh_until: Instant,
    renew_at: Instant,
}

struct Memory {
    granted: Recent<Hash, Entry>,
    refused: Recent<Hash, (Problem, Instant)>,
    /// Revoked lately: an answer that was under way meanwhile must not bring it back.
    revoked: Recent<CredentialId, ()>,
    asking: HashMap<Hash, Asking>,
    /// Grows with each doubt: an answer to an earlier question is good for one use.
    doubts: u64,
}

/// Turns credentials into grants. Shared by all requests.
pub struct Credentials {
    bus: Bus,
    metrics: Metrics,
    limits: Arc<Limits>,
    attempts: Arc<Attempts>,
    timeout: Duration,
    fresh: Duration,
    renew: Duration,
    memory: Mutex<Memory>,
    told: broadcast::Sender<Doubt>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Whose rights may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Everybody's.
    All,
    /// Those of one organisation.
    Organization(OrgId),
    /// Those of one credential.
    Credential(CredentialId),
}

impl Doubt {
    /// Whether this one's rights may have changed.
    #[must_use]
    pub fn is_about(self, granted: &Granted) -> bool {
        match self {
            Self::All => true,
            Self::Organization(org) => granted.org == org,
            Self::Credential(credential) => granted.credential == credential,
        }
    }
}

/// What is known about a credential without asking.
enum Known {
    Good { granted: Arc<Granted>, renew: bool },
    Stale,
    Bad(Problem),
    Nothing,
}

impl Credentials {
    /// An empty memory.
    #[must_use]
    pub fn new(bus: &Bus, config: &Config, limits: &Arc<Limits>, metrics: &Metrics) -> Arc<Self> {
        let memory = Memory {
            granted: Recent::new(REMEMBERED),
            refused: Recent::new(REMEMBERED),
            revoked: Recent::new(REMEMBERED),
            asking: HashMap::new(),
            doubts: 0,
        };
        Arc::new(Self {
            bus: bus.clone(),
            metrics: metrics.clone(),
            limits: limits.clone(),
            attempts: Attempts::new(bus, config.patience.read),
            timeout: config.patience.read,
            fresh: config.patience.grant_fresh,
            renew: config.patience.grant_renew,
            memory: Mutex::new(memory),
            told: broadcast::Sender::new(DOUBTS_MAX),
        })
    }

    /// What callers were refused here, before any owner was asked.
    #[must_use]
    pub fn attempts(&self) -> &Arc<Attempts> {
        &self.attempts
    }

    /// The grant of a credential that came from this address.
    ///
    /// # Errors
    /// 401 when it is not accepted, 429 when too many from that address were not, 503 when identity is away and
    /// nothing is known.
    pub async fn grant(
        self: &Arc<Self>,
        credential: &str,
        address: IpAddr,
    ) -> Result<Arc<Granted>, Refused> {
        let well_formed = credential.len() <= CREDENTIAL_MAX_BYTES
            && PREFIXES.iter().any(|prefix| credential.starts_with(prefix))
            && credential.bytes().all(|byte| byte.is_ascii_graphic());
        if !well_formed {
            self.may_try(address)?;
            self.failed(address);
            return Err(Refused::new(
                Kind::Unauthenticated,
                "the credential is neither an access token nor an API key",
            ));
        }
        let hash: Hash = Sha256::digest(credential.as_bytes()).into();
        let patience = match self.known(&hash) {
            Known::Good { granted, renew } => {
                if renew {
                    drop(self.ask(hash, credential, self.timeout));
                }
                self.metrics.grant(GrantOutcome::Cached);
                return Ok(granted);
            }
            Known::Stale => self.timeout.min(RENEW_TIMEOUT),
            Known::Bad(problem) => {
                self.may_try(address)?;
                self.failed(address);
                return Err(problem.into());
            }
            Known::Nothing => {
                self.may_try(address)?;
                self.timeout
            }
        };
        self.ask(hash, credential, patience)
            .await
            .map_err(|problem| {
                if problem.kind == ProblemKind::Unauthenticated {
                    self.failed(address);
                }
                problem.into()
            })
    }

    /// Refuses an address from which too many authentications failed.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn may_try(&self, address: IpAddr) -> Result<(), Refused> {
        self.limits.may_try(address)
    }

    /// Refuses an address from which too much comes at once without a credential.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn may_ask(&self, address: IpAddr) -> Result<(), Refused> {
        self.limits.take_of_address(Class::Open, address).admit()
    }

    /// Refuses an address that logs in, or does what costs as much, too often.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn may_log_in(&self, address: IpAddr) -> Result<(), Refused> {
        self.limits.take_of_address(Class::Logins, address).admit()
    }

    /// Counts a failed authentication, here or at an owner.
    pub fn failed(&self, address: IpAddr) {
        self.metrics.failed_authentications.inc();
        self.limits.failed(address);
    }

    /// An owner's refusal of something secret from this address (a password, a token, a signature), counted. Where no
    /// credential is asked for, being forbidden is being wrong about a secret.
    pub fn counted(&self, address: IpAddr, problem: Problem) -> Problem {
        if matches!(
            problem.kind,
            ProblemKind::Unauthenticated | ProblemKind::Forbidden
        ) {
            self.failed(address);
        }
        problem
    }

    /// Forgets a credential for good.
    pub fn revoke(&self, credential: CredentialId) {
        let mut memory = self.memory();
        memory.revoked.insert(credential, ());
        memory
            .granted
            .retain(|entry| entry.granted.credential != credential);
        drop(memory);
        self.tell(Doubt::Credential(credential));
    }

    /// Asks identity again before the next use.
    pub fn doubt(&self, whose: Doubt) {
        let now = Instant::now();
        let mut memory = self.memory();
        memory.doubts += 1;
        memory.granted.retain(|entry| {
            if whose.is_about(&entry.granted) {
                entry.fresh_until = now;
            }
            true
        });
        drop(memory);
        self.tell(whose);
    }

    fn tell(&self, whose: Doubt) {
        // Nobody may be there to hear it.
        drop(self.told.send(whose));
    }

    /// Whose rights may have changed, from now on: for what goes on after a request.
    #[must_use]
    pub fn doubts(&self) -> broadcast::Receiver<Doubt> {
        self.told.subscribe()
    }

    /// The grant that a credential has now, for what goes on after a request. It is no attempt to get in.
    ///
    /// # Errors
    /// Identity's refusal, or that it is away.
    pub async fn again(
        self: &Arc<Self>,
        id: CredentialId,
        credential: &str,
    ) -> Result<Arc<Granted>, Problem> {
        // Nobody presents it: no audit is to tell of somebody who still does.
        if self.memory().revoked.get(&id).is_some() {
            return Err(revoked());
        }
        let hash: Hash = Sha256::digest(credential.as_bytes()).into();
        let mut answer = None;
        // One answer may have been under way since before the doubt.
        for _ in 0..2 {
            match self.known(&hash) {
                Known::Good { granted, renew } => {
                    if renew {
                        drop(self.ask(hash, credential, self.timeout));
                    }
                    return Ok(granted);
                }
                Known::Bad(problem) => return Err(problem),
                Known::Stale | Known::Nothing => {
                    answer = Some(self.ask(hash, credential, self.timeout).await?);
                }
            }
        }
        answer.ok_or_else(|| Problem::unavailable("nobody could be asked"))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while it is held; if something did, the data is still whole.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, hash: &Hash) -> Known {
        let now = Instant::now();
        let mut memory = self.memory();
        if let Some(entry) = memory.granted.get(hash) {
            if !entry.granted.holds() {
                memory.granted.remove(hash);
                return Known::Nothing;
            }
            if now >= entry.fresh_until {
                return Known::Stale;
            }
            let renew = now >= entry.renew_at;
            if renew {
                // Once is enough, whatever comes of it.
                entry.renew_at = entry.fresh_until;
            }
            return Known::Good {
                granted: entry.granted.clone(),
                renew,
            };
        }
        match memory.refused.get(hash) {
            Some((problem, until)) if now < *until => Known::Bad(problem.clone()),
            _ => Known::Nothing,
        }
    }

    /// Asks identity, or joins those who are asking already. The question goes on when its asker goes away.
    fn ask(self: &Arc<Self>, hash: Hash, credential: &str, timeout: Duration) -> Asking {
        let mut memory = self.memory();
        if let Some(asking) = memory.asking.get(&hash) {
            return asking.clone();
        }
        let (this, exchange) = (
            self.clone(),
            Exchange {
                credential: credential.to_owned(),
            },
        );
        let doubts = memory.doubts;
        let question = async move {
            let answer = this.bus.gateway_call(&exchange, None, timeout).await;
            this.settle(hash, doubts, answer)
        };
        let asking = tokio::spawn(bus::client::carried(question).in_current_span())
            .map(|ended| {
                ended.unwrap_or_else(|_| {
                    Err(Problem::new(ProblemKind::Internal, "the exchange failed"))
                })
            })
            .boxed()
            .shared();
        memory.asking.insert(hash, asking.clone());
        asking
    }

    fn settle(&self, hash: Hash, doubts: u64, answer: Result<Exchanged, Problem>) -> Answer {
        let now = Instant::now();
        let mut memory = self.memory();
        memory.asking.remove(&hash);
        let problem = match answer {
            Ok(exchanged) if memory.revoked.get(&exchanged.credential).is_some() => revoked(),
            Ok(exchanged) => {
                let person = principal::person(&exchanged.grant);
                let granted = Arc::new(Granted {
                    token: exchanged.grant,
                    credential: exchanged.credential,
                    org: exchanged.org,
                    person,
                    expires_at: exchanged.expires_at,
                    paces: self.limits.paces(exchanged.credential, person),
                    networks: networks(exchanged.credential, exchanged.networks.as_ref()),
                    legacy: exchanged.legacy,
                });
                let fresh = if memory.doubts == doubts {
                    self.fresh
                } else {
                    Duration::ZERO
                };
                let renew = self.renew.min(fresh);
                memory.granted.insert(
                    hash,
                    Entry {
                        granted: granted.clone(),
                        fresh_until: now + fresh,
                        renew_at: now + renew,
                    },
                );
                self.metrics.grant(GrantOutcome::Exchanged);
                return Ok(granted);
            }
            Err(problem) => problem,
        };
        if matches!(
            problem.kind,
            ProblemKind::Unauthenticated | ProblemKind::Forbidden
        ) {
            memory.granted.remove(&hash);
            memory
                .refused
                .insert(hash, (problem.clone(), now + REFUSAL_FRESH));
            self.metrics.grant(GrantOutcome::Refused);
            return Err(problem);
        }
        match memory.granted.get(&hash) {
            Some(entry) if entry.granted.holds() => {
                entry.fresh_until = entry.fresh_until.max(now + KEPT_FRESH);
                self.metrics.grant(GrantOutcome::Kept);
                Ok(entry.granted.clone())
            }
            _ => {
                self.metrics.grant(GrantOutcome::Unavailable);
                Err(problem)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// What is logged, each line as `level name=value …`.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    struct Line<'a>(&'a mut String);

    impl Visit for Line<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            write!(self.0, " {}={value:?}", field.name()).expect("a string takes all");
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = self.0.lock().expect("nobody panicked");
            text.push_str(event.metadata().level().as_str());
            event.record(&mut Line(&mut text));
            text.push('\n');
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_network_that_cannot_be_read_lets_nobody_in_and_the_log_names_the_key() {
        let (log, key) = (Log::default(), CredentialId::new());
        let texts = ["10.0.0.0/8", "10.0.0.0/99", "everywhere"].map(ToOwned::to_owned);
        let read =
            tracing::subscriber::with_default(log.clone(), || networks(key, Some(&texts.to_vec())));
        assert_eq!(read, Some(vec!["10.0.0.0/8".parse().expect("a network")]));
        let log = log.0.lock().expect("nobody panicked");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        for (line, network) in lines.iter().zip(["10.0.0.0/99", "everywhere"]) {
            assert!(line.starts_with("WARN"), "{line}");
            assert!(
                line.contains(&key.to_string()) && line.contains(network),
                "{line}"
            );
        }
        assert_eq!(networks(key, None), None, "from everywhere");
    }
}

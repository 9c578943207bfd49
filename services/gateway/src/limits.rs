//! Limits that all replicas of the gateway keep together, without a place where all would have to ask. Each replica counts
//! for itself and lets through what it counts ([`bucket`]); twenty times a second it tells the others what it took
//! ([`gossip`]), and they take that from theirs, into debt if need be. What is let through too much within one such interval
//! is paid back in the next, so over seconds the limit holds for all of them together, whoever sees which part of the
//! requests. Replicas come and go without anybody's knowledge; while the bus is away each holds the limit for itself.

pub mod bucket;
pub mod class;
pub mod gossip;
pub mod paces;
pub mod recent;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use contract::rate::RateShare;
use domain::CredentialId;
use domain::network::neighbour;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::bucket::{Bucket, Name, Taken};
use self::class::{Class, Limit};
use self::paces::{Pace, Paces};
use self::recent::Recent;
use crate::error::Refused;
use crate::metrics::Metrics;

/// Locks of one store: requests seldom wait for each other.
const SHARDS: usize = 16;
/// How many subjects each store remembers.
const REMEMBERED: usize = 65_536;
/// How many subjects wait to be told. Those beyond it are told when they are taken from next.
const UNTOLD_MAX: usize = 8_192;
/// The most that one message of another replica may say that it took of one limit: what a replica serves in a second is less.
const CLAIM_MAX: u32 = 20_000;

/// How much of what, as the configuration says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// `DASHFLEET_ADDRESS_REQUESTS_PER_SECOND`
    pub address: u32,
    /// `DASHFLEET_OPEN_REQUESTS_PER_SECOND`
    pub open: u32,
    /// `DASHFLEET_NATS_TUNNELS_PER_SECOND`
    pub tunnels: u32,
    /// `DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE`
    pub failures: u32,
    /// `DASHFLEET_LOGINS_PER_MINUTE`
    pub logins: u32,
    /// `DASHFLEET_REQUESTS_PER_SECOND`
    pub requests: u32,
    /// `DASHFLEET_WRITES_PER_SECOND`
    pub writes: u32,
    /// `DASHFLEET_HEAVY_REQUESTS_PER_SECOND`
    pub heavy: u32,
    /// `DASHFLEET_USER_REQUESTS_PER_SECOND`
    pub user_requests: u32,
}

impl Amounts {
    /// The limit of a class.
    #[must_use]
    pub fn limit(&self, class: Class) -> Limit {
        match class {
            Class::Address => Limit::steady(self.address),
            // A rack that enrols, and a site that comes back after an outage, do so at once.
            Class::Open => Limit::at_once(self.open),
            Class::Tunnels => Limit::at_once(self.tunnels),
            Class::Failures => Limit::minute(self.failures),
            Class::Logins => Limit::minute(self.logins),
            Class::Requests => Limit::steady(self.requests),
            Class::UserRequests => Limit::steady(self.user_requests),
            Class::Writes | Class::UserWrites => Limit::steady(self.writes),
            Class::Heavy | Class::UserHeavy => Limit::steady(self.heavy),
            Class::LegacyReport => Limit::minute(30),
            Class::LegacyFleet | Class::LegacyQueue => Limit::minute(100),
            Class::LegacyPending | Class::LegacyResult => Limit::minute(60),
            // Ten thousand machines behind one address say what became of one action, and say it again: what is refused
            // here is executed anew.
            Class::LegacyResults => Limit::minute(20_000),
        }
    }
}

/// Subjects used lately, under several locks.
#[derive(Debug)]
struct Store(Vec<Mutex<Recent<Name, Arc<Bucket>>>>);

impl Store {
    fn new() -> Self {
        let shard = || Mutex::new(Recent::new(REMEMBERED / SHARDS));
        Self(std::iter::repeat_with(shard).take(SHARDS).collect())
    }

    fn shard(&self, name: &Name) -> Option<MutexGuard<'_, Recent<Name, Arc<Bucket>>>> {
        let [first, ..] = *name;
        let shard = self.0.get(usize::from(first) % SHARDS)?;
        // Nothing panics while it is held; if something did, the data is still whole.
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, name: &Name) -> Option<Arc<Bucket>> {
        self.shard(name)?.get(name).cloned()
    }
}

/// All limits of this replica.
pub struct Limits {
    amounts: Amounts,
    /// What makes names of subjects unreadable. All replicas have the same.
    key: [u8; 32],
    /// This process, among the replicas.
    replica: Uuid,
    began: Instant,
    /// Credentials and people: identity knows them, so nobody crowds this store with inventions.
    known: Store,
    /// Addresses that ask anything at all.
    addresses: Store,
    /// What else addresses do.
    deeds: Store,
    /// Subjects that only other replicas spoke of. Apart, so that no message crowds out what is counted here.
    heard: Store,
    untold: Mutex<Vec<Arc<Bucket>>>,
    metrics: Metrics,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("amounts", &self.amounts)
            .finish_non_exhaustive()
    }
}

impl Limits {
    /// Full ones. `secret` is what all replicas have and nobody else: names on the bus are made with it.
    #[must_use]
    pub fn new(amounts: Amounts, secret: &str, metrics: &Metrics) -> Arc<Self> {
        let key = Sha256::new()
            .chain_update(b"dashfleet/rate/1\0")
            .chain_update(secret.trim())
            .finalize();
        Arc::new(Self {
            amounts,
            key: key.into(),
            replica: Uuid::new_v4(),
            began: Instant::now(),
            known: Store::new(),
            addresses: Store::new(),
            deeds: Store::new(),
            heard: Store::new(),
            untold: Mutex::default(),
            metrics: metrics.clone(),
        })
    }

    /// Takes one of an address' requests, or of what else it does.
    pub fn take_of_address(&self, class: Class, address: IpAddr) -> Taken {
        self.take(&self.bucket(class, &octets(address), &[]))
    }

    /// Takes one of a legacy key's requests from an address, for the machine or the action that it names, if it does.
    pub fn take_of_legacy(
        &self,
        class: Class,
        credential: CredentialId,
        address: IpAddr,
        part: &str,
    ) -> Taken {
        let mut whose = [0; 32];
        let (key, from) = whose.split_at_mut(16);
        key.copy_from_slice(credential.0.as_bytes());
        from.copy_from_slice(&octets(address));
        self.take(&self.bucket(class, &whose, part.as_bytes()))
    }

    /// Counts a failed authentication.
    pub fn failed(&self, address: IpAddr) {
        let bucket = self.bucket(Class::Failures, &octets(address), &[]);
        bucket.charge_at(1, self.began.elapsed());
        self.note(&bucket);
    }

    /// Refuses an address from which too many authentications failed.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn may_try(&self, address: IpAddr) -> Result<(), Refused> {
        let name = self.name(Class::Failures, &octets(address), &[]);
        let found = self.deeds.get(&name).or_else(|| self.heard.get(&name));
        match found.and_then(|bucket| bucket.wait_at(self.began.elapsed())) {
            None => Ok(()),
            Some(wait) => {
                self.metrics.rate_limited(Class::Failures);
                let detail = format!("too many {}", Class::Failures.what());
                Err(Refused::rate_limited(detail, wait))
            }
        }
    }

    /// How fast a credential may go, and the person behind it.
    #[must_use]
    pub fn paces(self: &Arc<Self>, credential: CredentialId, user: Option<Uuid>) -> Paces {
        let pace = |whose: &Uuid, [requests, writes, heavy]: [Class; 3]| {
            let bucket = |class| self.bucket(class, whose.as_bytes(), &[]);
            // A limit that is not below the one for all requests never binds.
            let all = self.amounts.limit(requests).amount;
            let tighter = |class| (self.amounts.limit(class).amount < all).then(|| bucket(class));
            Pace {
                requests: bucket(requests),
                writes: tighter(writes),
                heavy: tighter(heavy),
            }
        };
        let key = [Class::Requests, Class::Writes, Class::Heavy];
        let person = [Class::UserRequests, Class::UserWrites, Class::UserHeavy];
        Paces::new(
            self.clone(),
            pace(&credential.0, key),
            user.map(|user| pace(&user, person)),
        )
    }

    fn take(&self, bucket: &Arc<Bucket>) -> Taken {
        let taken = bucket.take_at(self.began.elapsed());
        match taken.refused {
            None => self.note(bucket),
            Some(_) => self.metrics.rate_limited(taken.class),
        }
        taken
    }

    /// Notes that one was taken here, for the others.
    fn note(&self, bucket: &Arc<Bucket>) {
        if bucket.note(1) {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            if untold.len() < UNTOLD_MAX {
                untold.push(bucket.clone());
            } else {
                bucket
                    .waits
                    .store(false, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// What the others have not heard of, at most so many; after this they have.
    fn untold(&self, at_most: usize) -> Vec<RateShare> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let from = untold.len().saturating_sub(at_most);
        let shares = untold.drain(from..).map(|bucket| RateShare {
            class: bucket.class.name().to_owned(),
            name: hex(&bucket.name),
            count: bucket.tell(),
        });
        shares.filter(|share| share.count > 0).collect()
    }

    /// Takes what another replica took. What makes no sense is overlooked.
    fn heard(&self, share: &RateShare) -> bool {
        let (Some(class), Some(name)) = (Class::of_name(&share.class), unhex(&share.name)) else {
            return false;
        };
        let store = self.store(class);
        let bucket = store.get(&name).or_else(|| {
            let mut heard = self.heard.shard(&name)?;
            if let Some(bucket) = heard.get(&name) {
                return Some(bucket.clone());
            }
            let bucket = Arc::new(Bucket::new(class, name, self.amounts.limit(class)));
            heard.insert(name, bucket.clone());
            Some(bucket)
        });
        let Some(bucket) = bucket else { return false };
        bucket.charge_at(share.count.min(CLAIM_MAX), self.began.elapsed());
        true
    }

    fn store(&self, class: Class) -> &Store {
        match class {
            Class::Address => &self.addresses,
            class if class.is_known() => &self.known,
            _ => &self.deeds,
        }
    }

    /// What is left for a subject.
    fn bucket(&self, class: Class, whose: &[u8], part: &[u8]) -> Arc<Bucket> {
        let name = self.name(class, whose, part);
        let fresh = || Arc::new(Bucket::new(class, name, self.amounts.limit(class)));
        let Some(mut shard) = self.store(class).shard(&name) else {
            return fresh();
        };
        if let Some(bucket) = shard.get(&name) {
            return bucket.clone();
        }
        let spoken_of = self.heard.shard(&name).and_then(|mut h| h.remove(&name));
        let bucket = spoken_of.unwrap_or_else(fresh);
        shard.insert(name, bucket.clone());
        bucket
    }

    /// The name of a subject. `whose` has the same length for all of a class.
    fn name(&self, class: Class, whose: &[u8], part: &[u8]) -> Name {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(self.key)
            .chain_update(class.name())
            .chain_update(b"\0")
            .chain_update(whose)
            .chain_update(part)
            .finalize()
            .into();
        let mut name = [0; 16];
        name.copy_from_slice(hash.split_at(16).0);
        name
    }
}

/// The neighbour that an address belongs to: an IPv6 host has a whole /64.
fn octets(address: IpAddr) -> [u8; 16] {
    match neighbour(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn hex(name: &Name) -> String {
    format!("{:032x}", u128::from_be_bytes(*name))
}

fn unhex(text: &str) -> Option<Name> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}

#[cfg(test)]
#[path = "limits/tests.rs"]
mod tests;

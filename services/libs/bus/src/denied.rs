//! Attempts that were refused for want of a right, on their way into the audit: folded by organisation, credential, call,
//! thing and reason, and by the minute, so that neither a probe nor a machine that asks without end fills it.
//!
//! The first attempt is written at once; those that follow are counted, and the count is written when the minute ends. So
//! what a process that dies takes along is at most the counts of one minute, never the fact. Noting costs a look into a
//! map: it never makes a request fail or wait. The map is bounded, as a whole and for each organisation, so that none
//! crowds out what the others are told; what no longer has a place in it counts as one kind of attempt of its
//! organisation, and beyond that only the log says how many there were.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::audit::{AuditEntry, Resource};
use contract::{Author, Call, Problem, ProblemKind};
use domain::OrgId;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::service::{Caller, Context};

/// How long attempts of one kind are counted together.
const MINUTE: Duration = Duration::from_secs(60);
/// How many kinds of attempts are counted at once, before those of an organisation are one kind.
const KINDS_MAX: usize = 4_096;
/// The same for one organisation.
const KINDS_OF_ORG_MAX: usize = 512;
/// How many organisations may have that one kind besides.
const REST_MAX: usize = 1_024;
/// How many entries wait for a database that is away; more are only counted.
const WAITING_MAX: usize = 8_192;
/// How soon what could not be written is tried again, and how often ends of minutes are looked for.
const TICK: Duration = Duration::from_secs(1);
/// What stands for all attempts that have no place of their own.
const REST: &str = "more kinds of refused attempts than are counted apart";

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    org: OrgId,
    who: Option<Uuid>,
    call: String,
    thing: Option<String>,
    reason: String,
}

impl Kind {
    fn of(attempt: &AuditEntry) -> Self {
        Self {
            org: attempt.org,
            who: attempt.credential.map(|id| id.0).or(attempt.actor.id),
            call: attempt.call.clone(),
            thing: attempt.resource.id.clone(),
            reason: attempt.reason.clone().unwrap_or_default(),
        }
    }

    /// All attempts of an organisation that have no place of their own.
    fn rest(org: OrgId) -> Self {
        Self {
            org,
            who: None,
            call: String::new(),
            thing: None,
            reason: REST.into(),
        }
    }
}

/// Attempts of one kind.
struct Folded {
    /// The last of them.
    last: AuditEntry,
    /// Since when they are counted.
    since: Instant,
    /// How many are not written yet.
    more: u32,
}

#[derive(Default)]
struct Memory {
    folded: HashMap<Kind, Folded>,
    /// How many of them an organisation has; none is absent.
    of_org: HashMap<OrgId, usize>,
    waiting: Vec<AuditEntry>,
    lost: u64,
}

/// Refused attempts. Clones share them.
#[derive(Clone, Default)]
pub struct Denials {
    memory: Arc<Mutex<Memory>>,
    wake: Arc<Notify>,
}

/// A request that may turn out to be refused.
pub(crate) struct Watched {
    denials: Denials,
    author: Arc<Author>,
    noun: &'static str,
    verb: &'static str,
}

impl Watched {
    /// What came of it.
    pub(crate) fn refused(self, problem: &Problem) {
        if problem.kind == ProblemKind::Forbidden {
            let call = format!("{}.{}", self.noun, self.verb);
            let entry = self.author.did(&call, Resource::kind(self.noun));
            self.denials.note(entry.denied(problem.detail.clone()));
        }
    }
}

impl Denials {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a request of a user's. A service that forwards a grant answers its own user, and is watched there.
    pub(crate) fn watch<C: Call>(self, context: &Context) -> Option<Watched> {
        let author = context.author()?.clone();
        (context.caller == Caller::Gateway).then_some(Watched {
            denials: self,
            author,
            noun: C::NOUN,
            verb: C::VERB,
        })
    }

    /// Notes an attempt (or as many as its `count` says), of somebody who is known.
    pub fn note(&self, attempt: AuditEntry) {
        self.note_at(attempt.tidy(), Instant::now());
    }

    fn note_at(&self, mut attempt: AuditEntry, now: Instant) {
        let mut guard = self.memory();
        let memory = &mut *guard;
        let mut kind = Kind::of(&attempt);
        let of_org = memory.of_org.get(&kind.org).copied().unwrap_or_default();
        let full = memory.folded.len() >= KINDS_MAX || of_org >= KINDS_OF_ORG_MAX;
        if full && !memory.folded.contains_key(&kind) {
            kind = Kind::rest(attempt.org);
            attempt = attempt.denied(REST);
        }
        if let Some(folded) = memory.folded.get_mut(&kind) {
            folded.more = folded.more.saturating_add(attempt.count);
            folded.last = attempt;
        } else if memory.folded.len() < KINDS_MAX + REST_MAX && memory.waiting.len() < WAITING_MAX {
            memory.waiting.push(attempt.clone());
            *memory.of_org.entry(kind.org).or_default() += 1;
            let folded = Folded {
                last: attempt,
                since: now,
                more: 0,
            };
            memory.folded.insert(kind, folded);
            drop(guard);
            self.wake.notify_one();
        } else {
            memory.lost += u64::from(attempt.count);
        }
    }

    /// What is to be written now: first attempts, and the counts of minutes that ended (of all, at the end). A kind that
    /// goes on stays, so that its next attempt is no first one again.
    fn take(&self, now: Instant, ending: bool) -> Vec<AuditEntry> {
        let mut guard = self.memory();
        let Memory {
            folded,
            of_org,
            waiting,
            lost,
        } = &mut *guard;
        let lost = std::mem::take(lost);
        if lost > 0 {
            tracing::warn!(lost, "refused attempts were too many to be written down");
        }
        let mut due = std::mem::take(waiting);
        folded.retain(|kind, folded| {
            let over = ending || now.saturating_duration_since(folded.since) >= MINUTE;
            if !over {
                return true;
            }
            if folded.more == 0 {
                if let Some(kinds) = of_org.get_mut(&kind.org) {
                    *kinds = kinds.saturating_sub(1);
                }
                return false;
            }
            let count = std::mem::take(&mut folded.more);
            folded.since = now;
            due.push(AuditEntry {
                id: Uuid::now_v7(),
                count,
                ..folded.last.clone()
            });
            true
        });
        of_org.retain(|_, kinds| *kinds > 0);
        due
    }

    /// What could not be written waits, as far as there is room.
    fn give_back(&self, mut entries: Vec<AuditEntry>) {
        let mut memory = self.memory();
        let room = WAITING_MAX.saturating_sub(memory.waiting.len());
        let lost = entries.iter().skip(room);
        memory.lost += lost.map(|entry| u64::from(entry.count)).sum::<u64>();
        entries.truncate(room);
        entries.append(&mut memory.waiting);
        memory.waiting = entries;
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Nothing panics while the lock is held; if something did, the counts are still whole.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is due, for ever: `write` puts entries into the service's outbox, all or none.
    pub async fn run<W, F, E>(self, write: W)
    where
        W: Fn(Vec<AuditEntry>) -> F,
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        loop {
            if !self.write_due(&write, false).await {
                tokio::time::sleep(TICK).await;
            }
            let _woken = tokio::time::timeout(TICK, self.wake.notified()).await;
        }
    }

    /// Writes everything, once: the process ends.
    pub async fn flush<W, F, E>(&self, write: W)
    where
        W: Fn(Vec<AuditEntry>) -> F,
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        self.write_due(&write, true).await;
    }

    async fn write_due<W, F, E>(&self, write: &W, ending: bool) -> bool
    where
        W: Fn(Vec<AuditEntry>) -> F,
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let due = self.take(Instant::now(), ending);
        if due.is_empty() {
            return true;
        }
        let written = write(due.clone()).await;
        if let Err(error) = &written {
            tracing::debug!(%error, "refused attempts are not written yet");
            self.give_back(due);
        }
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::audit::{Actor, ActorKind};

    fn attempt(org: OrgId, who: Uuid, reason: &str) -> AuditEntry {
        let actor = Actor::of(ActorKind::ApiKey, who);
        AuditEntry::new(org, actor, "machine.revoke", Resource::kind("machine")).denied(reason)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_by_the_minute() {
        let (denials, org, who) = (Denials::new(), OrgId::new(), Uuid::now_v7());
        let begin = Instant::now();
        for _ in 0..1_000 {
            denials.note_at(attempt(org, who, "no"), begin);
        }
        denials.note_at(attempt(org, who, "another reason"), begin);
        let first: Vec<u32> = denials
            .take(begin, false)
            .iter()
            .map(|entry| entry.count)
            .collect();
        assert_eq!(first, [1, 1]);
        assert!(denials.take(begin, false).is_empty());
        let minute: Vec<u32> = denials
            .take(begin + MINUTE, false)
            .iter()
            .map(|entry| entry.count)
            .collect();
        assert_eq!(minute, [999]);
        // It goes on: no first attempt again, only a count.
        denials.note_at(attempt(org, who, "no"), begin + MINUTE);
        assert!(denials.take(begin + MINUTE, false).is_empty());
        assert_eq!(denials.take(begin + MINUTE * 2, false).len(), 1);
        assert!(denials.take(begin + MINUTE * 3, false).is_empty());
        let memory = denials.memory();
        assert!(
            memory.folded.is_empty() && memory.of_org.is_empty(),
            "who stopped is forgotten"
        );
    }

    #[test]
    fn what_somebody_counted_before_counts_and_each_thing_is_told_apart() {
        let (denials, org, who) = (Denials::new(), OrgId::new(), Uuid::now_v7());
        let now = Instant::now();
        let of = |thing: &str, count: usize| {
            let mut attempt = attempt(org, who, "no").count(count);
            attempt.resource = Resource::of("operation", thing);
            attempt
        };
        for (thing, count) in [("a", 3), ("b", 1), ("a", 4), ("a", 5)] {
            denials.note_at(of(thing, count), now);
        }
        let counts =
            |due: Vec<AuditEntry>| -> Vec<u32> { due.iter().map(|entry| entry.count).collect() };
        assert_eq!(counts(denials.take(now, false)), [3, 1]);
        assert_eq!(counts(denials.take(now + MINUTE, false)), [9]);
    }

    #[test]
    fn an_organisation_that_probes_without_end_crowds_out_no_other() {
        let (denials, loud, quiet) = (Denials::new(), OrgId::new(), OrgId::new());
        let now = Instant::now();
        for _ in 0..KINDS_MAX * 2 {
            denials.note_at(attempt(loud, Uuid::now_v7(), "no"), now);
        }
        denials.note_at(attempt(quiet, Uuid::now_v7(), "no"), now);
        let due = denials.take(now, false);
        let of = |org: OrgId| due.iter().filter(move |entry| entry.org == org);
        assert_eq!(of(loud).count(), KINDS_OF_ORG_MAX + 1);
        let told: Vec<_> = of(quiet).map(|entry| entry.reason.as_deref()).collect();
        assert_eq!(told, [Some("no")], "in its own words");
        let all: u32 = denials
            .take(now, true)
            .iter()
            .map(|entry| entry.count)
            .sum();
        assert_eq!(all as usize, KINDS_MAX * 2 - KINDS_OF_ORG_MAX - 1);
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_written_waits() {
        let (denials, org, now) = (Denials::new(), OrgId::new(), Instant::now());
        for _ in 0..20_000 {
            denials.note_at(attempt(org, Uuid::now_v7(), "no"), now);
        }
        assert!(denials.memory().folded.len() <= KINDS_MAX + REST_MAX);
        let due = denials.take(now, false);
        assert!(due.len() <= WAITING_MAX);
        denials.give_back(due.clone());
        assert_eq!(denials.take(now, false).len(), due.len());
        assert!(
            denials
                .take(now, true)
                .iter()
                .map(|entry| entry.count)
                .sum::<u32>()
                > 10_000
        );
    }
}

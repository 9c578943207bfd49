//! Offers that nobody has answered.

use std::collections::HashMap;
use std::time::Duration;

use contract::work::Lane;
use domain::{ExecutionId, JobId, OrgId};
use tokio::time::Instant;

use crate::app::fair::Chosen;

/// One of them.
struct Offered {
    lane: Lane,
    at: Instant,
    tag: f64,
    is_first: bool,
}

/// One that was answered.
pub(super) struct Answered {
    pub(super) lane: Lane,
    pub(super) tag: f64,
    /// How long it was out, if its organisation came with it.
    pub(super) waited: Option<Duration>,
}

/// What is out.
#[derive(Default)]
pub(super) struct Out {
    offers: HashMap<ExecutionId, Offered>,
    /// How many of them each organisation has.
    of: HashMap<OrgId, usize>,
    /// What was answered since the question for what waits was asked, and in which lane: the answer may not know that yet. `None` when
    /// nothing is asked.
    answered: Option<HashMap<ExecutionId, Lane>>,
}

/// How many are out of each organisation, job and lane.
#[derive(Default)]
pub(super) struct UnderWay {
    pub(super) tenants: HashMap<OrgId, i32>,
    pub(super) jobs: HashMap<JobId, i32>,
    pub(super) lanes: HashMap<Lane, i32>,
}

/// One of an organisation is out no more.
fn less(of: &mut HashMap<OrgId, usize>, org: OrgId) {
    if let Some(count) = of.get_mut(&org) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            of.remove(&org);
        }
    }
}

impl Out {
    pub(super) fn len(&self) -> usize {
        self.offers.len()
    }

    /// It is offered now.
    pub(super) fn insert(&mut self, chosen: Chosen) {
        let offered = Offered {
            lane: chosen.lane,
            at: Instant::now(),
            tag: chosen.tag,
            is_first: chosen.is_first,
        };
        let org = offered.lane.org;
        if self.offers.insert(chosen.id, offered).is_none() {
            *self.of.entry(org).or_default() += 1;
        }
    }

    /// Whether anything of an organisation is out.
    pub(super) fn has(&self, org: OrgId) -> bool {
        self.of.contains_key(&org)
    }

    /// How many are out of organisations that are `meant`.
    pub(super) fn count(&self, meant: impl Fn(OrgId) -> bool) -> usize {
        let of = self.of.iter().filter(|(org, _)| meant(**org));
        of.map(|(_, count)| count).sum()
    }

    /// It is answered; what is known of its offer, if it was by this dispatcher.
    pub(super) fn answered(&mut self, id: ExecutionId, now: Instant) -> Option<Answered> {
        let offered = self.offers.remove(&id)?;
        less(&mut self.of, offered.lane.org);
        if let Some(answered) = &mut self.answered {
            answered.insert(id, offered.lane.clone());
        }
        let waited = now.saturating_duration_since(offered.at);
        Some(Answered {
            lane: offered.lane,
            tag: offered.tag,
            waited: offered.is_first.then_some(waited),
        })
    }

    /// What waits is asked for now.
    pub(super) fn asked(&mut self) {
        self.answered = Some(HashMap::new());
    }

    /// What waits was told.
    pub(super) fn told(&mut self) {
        self.answered = None;
    }

    /// Whether an offer of it is out, or was answered after what waits was asked for.
    pub(super) fn knows(&self, id: &ExecutionId) -> bool {
        let answered = self.answered.as_ref();
        self.offers.contains_key(id) || answered.is_some_and(|answered| answered.contains_key(id))
    }

    /// Forgets what nobody answered for so long; the lanes of it.
    pub(super) fn expire(&mut self, after: Duration) -> Vec<Lane> {
        let mut lanes = Vec::new();
        let of = &mut self.of;
        self.offers.retain(|_, offered| {
            let stays = offered.at.elapsed() < after;
            if !stays {
                less(of, offered.lane.org);
                lanes.push(offered.lane.clone());
            }
            stays
        });
        lanes
    }

    /// The highest tag that is out.
    pub(super) fn last(&self) -> Option<f64> {
        let tags = self.offers.values().map(|offered| offered.tag);
        tags.reduce(f64::max)
    }

    /// How many are out; with those that have begun since what waits was asked: the answer may not have counted them.
    pub(super) fn under_way(&self) -> UnderWay {
        let mut counts = UnderWay::default();
        let out = self.offers.values().map(|offered| &offered.lane);
        let begun = self.answered.iter().flat_map(HashMap::values);
        for lane in out.chain(begun) {
            *counts.tenants.entry(lane.org).or_default() += 1;
            *counts.jobs.entry(lane.job).or_default() += 1;
            match counts.lanes.get_mut(lane) {
                Some(count) => *count += 1,
                None => drop(counts.lanes.insert(lane.clone(), 1)),
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_is_counted_until_it_is_answered_or_too_old() {
        let (mut out, org) = (Out::default(), OrgId::new());
        let chosen = || Chosen {
            lane: Lane {
                org,
                job: JobId::new(),
                key: String::new(),
            },
            id: ExecutionId::new(),
            tag: 3.0,
            is_first: false,
        };
        let (one, two) = (chosen(), chosen());
        out.insert(one.clone());
        out.insert(one.clone());
        out.insert(two.clone());
        assert_eq!((out.len(), out.under_way().tenants[&org]), (2, 2));
        // What was answered after the question was asked is known until it is told.
        out.asked();
        let now = Instant::now();
        let answered = out.answered(one.id, now).expect("it was out");
        assert_eq!((answered.lane, answered.tag), (one.lane.clone(), 3.0));
        assert_eq!(answered.waited, None);
        assert_eq!((out.len(), out.under_way().tenants[&org]), (1, 2));
        assert!(out.knows(&one.id) && out.knows(&two.id) && out.has(org));
        assert_eq!((out.count(|of| of == org), out.count(|_| false)), (1, 0));
        out.told();
        assert!(!out.knows(&one.id));
        let first = Chosen {
            is_first: true,
            ..chosen()
        };
        out.insert(first.clone());
        let answered = out.answered(first.id, Instant::now());
        assert!(answered.is_some_and(|answered| answered.waited.is_some()));
        assert!(out.answered(one.id, now).is_none());
        assert_eq!(out.last(), Some(3.0));
        assert!(out.expire(Duration::from_secs(60)).is_empty());
        assert_eq!(out.expire(Duration::ZERO), [two.lane]);
        assert!(out.len() == 0 && !out.has(org));
    }
}

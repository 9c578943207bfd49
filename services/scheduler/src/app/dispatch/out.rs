//! Offers that nobody has answered.

use std::collections::{HashMap, HashSet};
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
}

/// What is out.
#[derive(Default)]
pub(super) struct Out {
    offers: HashMap<ExecutionId, Offered>,
    /// What was answered since the question for what waits was asked: its answer may not know that yet. `None` when it is not asked.
    answered: Option<HashSet<ExecutionId>>,
}

/// How many are out of each organisation, job and lane.
#[derive(Default)]
pub(super) struct UnderWay {
    pub(super) tenants: HashMap<OrgId, i32>,
    pub(super) jobs: HashMap<JobId, i32>,
    pub(super) lanes: HashMap<Lane, i32>,
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
        };
        self.offers.insert(chosen.id, offered);
    }

    /// It is answered; where it was offered from, and its tag, if it was by this dispatcher.
    pub(super) fn answered(&mut self, id: ExecutionId) -> Option<(Lane, f64)> {
        if let Some(answered) = &mut self.answered {
            answered.insert(id);
        }
        let offered = self.offers.remove(&id)?;
        Some((offered.lane, offered.tag))
    }

    /// What waits is asked for now.
    pub(super) fn asked(&mut self) {
        self.answered = Some(HashSet::new());
    }

    /// What waits was told.
    pub(super) fn told(&mut self) {
        self.answered = None;
    }

    /// Whether an offer of it is out, or was answered after what waits was asked for.
    pub(super) fn knows(&self, id: &ExecutionId) -> bool {
        let answered = self.answered.as_ref();
        self.offers.contains_key(id) || answered.is_some_and(|answered| answered.contains(id))
    }

    /// Forgets what nobody answered for so long; the lanes of it.
    pub(super) fn expire(&mut self, after: Duration) -> HashSet<Lane> {
        let mut lanes = HashSet::new();
        self.offers.retain(|_, offered| {
            let stays = offered.at.elapsed() < after;
            if !stays {
                lanes.insert(offered.lane.clone());
            }
            stays
        });
        lanes
    }

    /// How many are out.
    pub(super) fn under_way(&self) -> UnderWay {
        let mut counts = UnderWay::default();
        for Offered { lane, .. } in self.offers.values() {
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

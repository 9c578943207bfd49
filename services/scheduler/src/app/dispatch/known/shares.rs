//! How many of the known lanes each organisation has, and who has most.

use std::collections::{BTreeSet, HashMap};

use domain::OrgId;

/// Counts of lanes.
#[derive(Default)]
pub(super) struct Shares {
    counts: HashMap<OrgId, usize>,
    /// The same, by number.
    order: BTreeSet<(usize, OrgId)>,
}

impl Shares {
    /// How many an organisation has.
    pub(super) fn of(&self, org: OrgId) -> usize {
        self.counts.get(&org).copied().unwrap_or_default()
    }

    /// Who has most, and how many.
    pub(super) fn most(&self) -> Option<(OrgId, usize)> {
        self.order.last().map(|(count, org)| (*org, *count))
    }

    /// An organisation has one more.
    pub(super) fn more(&mut self, org: OrgId) {
        self.set(org, self.of(org) + 1);
    }

    /// One fewer.
    pub(super) fn fewer(&mut self, org: OrgId) {
        self.set(org, self.of(org).saturating_sub(1));
    }

    fn set(&mut self, org: OrgId, count: usize) {
        self.order.remove(&(self.of(org), org));
        if count == 0 {
            self.counts.remove(&org);
            return;
        }
        self.counts.insert(org, count);
        self.order.insert((count, org));
    }
}

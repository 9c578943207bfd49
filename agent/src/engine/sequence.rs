//! Which places of the machine's order of actions are known, and which of those need nothing more.

use std::collections::BTreeMap;

use crate::journal::record::Key;

/// The places: all up to `through` are settled; beyond it, those of the ranges are settled and those of the map open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    through: i64,
    /// From and to, inclusive; neither overlapping nor touching.
    settled: BTreeMap<i64, i64>,
    open: BTreeMap<i64, Key>,
}

impl Sequence {
    /// Up to here everything is settled.
    #[must_use]
    pub fn settled_through(&self) -> i64 {
        self.through
    }

    /// Up to here everything is known.
    #[must_use]
    pub fn known_through(&self) -> i64 {
        let mut known = self.through;
        loop {
            let next = known.saturating_add(1);
            if let Some(to) = self.settled.get(&next) {
                known = *to;
            } else if self.open.contains_key(&next) {
                known = next;
            } else {
                return known;
            }
        }
    }

    /// The greatest place that is known.
    #[must_use]
    pub fn last(&self) -> i64 {
        let settled = self
            .settled
            .values()
            .next_back()
            .copied()
            .unwrap_or(self.through);
        self.open
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.through)
            .max(settled)
    }

    fn is_settled(&self, seq: i64) -> bool {
        seq <= self.through
            || self
                .settled
                .range(..=seq)
                .next_back()
                .is_some_and(|(_, to)| *to >= seq)
    }

    /// Whether this place is known.
    #[must_use]
    pub fn knows(&self, seq: i64) -> bool {
        self.open.contains_key(&seq) || self.is_settled(seq)
    }

    /// The open attempts from one place to another.
    #[must_use]
    pub fn open_between(&self, from: i64, to: i64) -> Vec<(i64, Key)> {
        if from > to {
            return Vec::new();
        }
        self.open
            .range(from..=to)
            .map(|(seq, key)| (*seq, *key))
            .collect()
    }

    /// An attempt takes its place. A settled place stays settled: it is the second attempt of an action.
    pub fn open(&mut self, seq: i64, key: Key) {
        if !self.is_settled(seq) {
            self.open.insert(seq, key);
        }
    }

    /// A place needs nothing more.
    pub fn settle(&mut self, seq: i64) {
        self.open.remove(&seq);
        self.settle_between(seq, seq);
    }

    /// All places from one to another need nothing more, but for those that are open. Says whether that was news.
    pub fn settle_between(&mut self, from: i64, to: i64) -> bool {
        let mut news = false;
        let mut next = from.max(self.through.saturating_add(1));
        for (seq, _) in self.open_between(next, to) {
            news |= self.insert(next, seq - 1);
            next = seq + 1;
        }
        news |= self.insert(next, to);
        while let Some(to) = self.settled.remove(&self.through.saturating_add(1)) {
            self.through = to;
        }
        news
    }

    fn insert(&mut self, from: i64, to: i64) -> bool {
        if from > to {
            return false;
        }
        let before = self
            .settled
            .range(..=from)
            .next_back()
            .map(|(from, to)| (*from, *to));
        if before.is_some_and(|(_, end)| end >= to) {
            return false;
        }
        let (mut first, mut last) = (from, to);
        if let Some((start, end)) = before
            && end >= from - 1
        {
            first = start;
        }
        // Everything that begins inside, or right behind, becomes one with it.
        let inside: Vec<i64> = self
            .settled
            .range(first..=to.saturating_add(1))
            .map(|(start, _)| *start)
            .collect();
        for start in inside {
            if let Some(end) = self.settled.remove(&start) {
                last = last.max(end);
            }
        }
        self.settled.insert(first, last);
        true
    }

    /// The attempt at this place was never written down.
    pub fn forget(&mut self, seq: i64) {
        self.open.remove(&seq);
    }

    /// The settled places beyond those that are all settled, as ranges.
    #[must_use]
    pub fn settled_ranges(&self) -> Vec<(i64, i64)> {
        self.settled.iter().map(|(from, to)| (*from, *to)).collect()
    }
}

//! Samples that keep their times, as bounds for those before them that get others.

use std::collections::VecDeque;

use domain::Timestamp;

/// Where samples that may move must stay before one that does not. First each sample is [seen](Self::see), then each of
/// those that may move is put [below](Self::below), both in the order in which they wait. What stays lies together but
/// for what an interruption mixed, so there are few of these.
#[derive(Debug, Default)]
pub struct Barriers {
    /// How many samples that may move are still to come before one that stays, and the time of that.
    ahead: VecDeque<(i64, Timestamp)>,
    /// How many were seen since the last one that stays.
    movable: i64,
}

impl Barriers {
    /// A sample that stays at this time, or one that may move.
    pub fn see(&mut self, at: Timestamp, stays: bool) {
        if !stays {
            self.movable += 1;
        } else if self.movable > 0 {
            self.ahead
                .push_back((std::mem::take(&mut self.movable), at));
        }
    }

    /// The time for the next sample that may move: the one that it should have, or an earlier one, so that those
    /// between it and the next one that stays have a millisecond each.
    pub fn below(&mut self, at: Option<Timestamp>) -> Option<Timestamp> {
        let Some((left, stays)) = self.ahead.pop_front() else {
            return at;
        };
        let latest = stays.plus(-chrono::Duration::milliseconds(left));
        if left > 1 {
            self.ahead.push_front((left - 1, stays));
        }
        at.map(|at| at.min(latest))
    }
}

//! How fast handlers end, and so how much a worker has at hand beside what runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::claim::STALE;

/// The most that is prefetched.
const PREFETCH_MAX: usize = 500;
/// As much as handlers end while two claims are under way, so that no slot waits for one; between these times. The shortest
/// makes for claims of many: a commit of one costs nearly as much as one of thirty.
const PREFETCH_TIME: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(100)];
/// As many offers as are prefetched may wait here, and so many more at most, where there will be room for them soon: among those that are
/// here, who is next goes first. Where handlers last, nothing is taken ahead, and other workers may have it.
const AHEAD: usize = 8;
/// How much of each new time of a claim is believed.
const PART: f64 = 0.2;
/// Over which time ends are counted.
const SPAN: Duration = Duration::from_millis(100);

/// How fast handlers end.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    last: Instant,
    count: u32,
    per_second: f64,
    /// How long a claim takes, in seconds.
    claim: f64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            last: now,
            count: 0,
            per_second: 0.0,
            claim: 0.0,
        }
    }

    /// A claim took so long.
    pub(crate) fn claimed(&mut self, took: Duration) {
        self.claim += PART * (took.as_secs_f64() - self.claim);
    }

    pub(crate) fn ended(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.last = now;
    }

    /// How many offers may wait here for room: none where nothing has ended for a while.
    pub(crate) fn ahead(&mut self, now: Instant) -> usize {
        match self.prefetch(now) {
            0 if !self.is_recent(now) => 0,
            prefetch => prefetch + AHEAD.min((self.per_second * STALE.as_secs_f64()) as usize),
        }
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.per_second >= 1.0 && now.saturating_duration_since(self.last) <= 2 * SPAN
    }

    /// When that is to be looked at again, if nothing ends.
    pub(crate) fn look_at(&self, now: Instant) -> Option<Instant> {
        self.is_recent(now).then(|| self.last + 3 * SPAN)
    }

    /// How many to have at hand beside those that run.
    pub(crate) fn prefetch(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPAN {
            let seen = f64::from(self.count) / passed.as_secs_f64();
            // Half of it is believed after one span, all but nothing of what was before after ten.
            let part = 1.0 - 0.5_f64.powf(passed.as_secs_f64() / SPAN.as_secs_f64());
            self.per_second += part * (seen - self.per_second);
            self.count = 0;
            self.since = now;
        }
        if !self.is_recent(now) {
            return 0;
        }
        let [shortest, longest] = PREFETCH_TIME.map(|time| time.as_secs_f64());
        let most = self.per_second * (self.claim * 2.0).clamp(shortest, longest);
        (most as usize).min(PREFETCH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetching_follows_how_fast_handlers_end() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.prefetch(start), 0);
        let mut now = start;
        for _ in 0..20 {
            for _ in 0..200 {
                pace.ended(now);
            }
            now += SPAN;
            pace.prefetch(now);
        }
        // 2,000 a second for 30 ms; and for twice as long as claims take.
        assert!((55..=60).contains(&pace.prefetch(now)));
        assert_eq!(pace.ahead(now), pace.prefetch(now) + AHEAD);
        assert_eq!(pace.look_at(now), Some(now + 2 * SPAN));
        for _ in 0..100 {
            pace.claimed(Duration::from_millis(40));
        }
        assert!((150..=160).contains(&pace.prefetch(now)));
        // Those that run now last: nothing is taken ahead of them.
        now += 2 * SPAN;
        assert_eq!((pace.prefetch(now), pace.ahead(now)), (0, 0));
        assert_eq!(pace.look_at(now), None);
        // Nor when one of them ends after a while.
        now += Duration::from_secs(60);
        pace.ended(now);
        assert_eq!((pace.prefetch(now), pace.ahead(now)), (0, 0));
    }
}

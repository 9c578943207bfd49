//! How many offers may be out at once: what workers take in the time that an offer needs to be answered, twice. A longer window
//! would let what was offered first go before what has become more urgent, or whose turn it is; a shorter one would let
//! workers wait. (So BBR bounds what is under way in a network: Cardwell et al., ACM Queue 14(5), 2016.)

use std::time::Duration;

use tokio::time::Instant;

/// So many times the shortest way, so that the rate can grow to what workers really take.
const GAIN: f64 = 2.0;
/// The shortest way of an offer is taken to lie between these: what was seen while workers were busy says little.
const WAY: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(20)];
/// For so long the shortest way is remembered, at least.
const REMEMBERED: Duration = Duration::from_secs(2);
/// At least so many, and a quarter of the slots that there are: idle workers are busy after four ways.
const MIN: usize = 2;
/// Slots beyond this count of offers do not widen the window by themselves.
const MIN_MAX: usize = 32;
/// At most so many.
const MAX: usize = 2_000;
/// Over which time what was taken is counted.
const SPAN: Duration = Duration::from_millis(100);
/// How much of each new count is believed.
const PART: f64 = 0.5;

/// The window, by what was lately taken, and how soon.
#[derive(Debug)]
pub struct Window {
    since: Instant,
    count: u32,
    /// Taken in a second.
    rate: f64,
    /// How many handlers the workers can run at once.
    slots: usize,
    /// The shortest time from an offer to its answer: lately, and before that.
    ways: [Duration; 2],
    ways_since: Instant,
}

impl Window {
    /// A window that knows of nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            count: 0,
            rate: 0.0,
            slots: 0,
            ways: [Duration::MAX; 2],
            ways_since: now,
        }
    }

    /// So many were taken.
    pub fn begun(&mut self, count: u32, now: Instant) {
        self.count = self.count.saturating_add(count);
        self.pass(now);
    }

    /// An offer was answered, so long after it was made.
    pub fn answered(&mut self, way: Duration, now: Instant) {
        let [lately, before] = self.ways;
        self.ways = if now.saturating_duration_since(self.ways_since) >= REMEMBERED {
            self.ways_since = now;
            [way, lately]
        } else {
            [lately.min(way), before]
        };
    }

    /// The workers have so many slots.
    pub fn slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// How many may be out.
    pub fn size(&mut self, now: Instant) -> usize {
        self.pass(now);
        let [lately, before] = self.ways;
        let [shortest, longest] = WAY;
        let way = lately.min(before).clamp(shortest, longest);
        let least = (self.slots / 4).clamp(MIN, MIN_MAX);
        ((self.rate * GAIN * way.as_secs_f64()) as usize).clamp(least, MAX)
    }

    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPAN {
            let seen = f64::from(self.count) / passed.as_secs_f64();
            self.rate += PART * (seen - self.rate);
            self.count = 0;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_twice_what_is_taken_in_the_shortest_way_of_an_offer() {
        let start = Instant::now();
        let mut window = Window::new(start);
        assert_eq!(window.size(start), MIN);
        for step in 1..=20 {
            let now = start + SPAN * step;
            window.begun(1_000, now);
            window.answered(Duration::from_millis(5), now);
            window.answered(Duration::from_millis(80), now);
        }
        // 10,000 in a second.
        let size = window.size(start + SPAN * 20);
        assert!((95..=100).contains(&size), "{size}");
        let quiet = window.size(start + SPAN * 400);
        assert_eq!(quiet, MIN);
    }

    #[test]
    fn a_longer_way_is_believed_when_no_shorter_one_was_seen_for_a_while() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.answered(Duration::from_millis(4), start);
        let mut now = start;
        for _ in 0..50 {
            now += SPAN;
            window.begun(1_000, now);
            window.answered(Duration::from_millis(10), now);
        }
        let size = window.size(now);
        assert!((190..=200).contains(&size), "{size}");
    }

    #[test]
    fn slots_widen_it_up_to_a_bound() {
        let now = Instant::now();
        let mut window = Window::new(now);
        for (slots, size) in [(5, MIN), (40, 10), (10_000, MIN_MAX)] {
            window.slots(slots);
            assert_eq!(window.size(now), size, "{slots} slots");
        }
    }
}

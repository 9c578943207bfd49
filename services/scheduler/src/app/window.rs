//! How many offers may be out at once: about as many as workers take in ten milliseconds. A longer window would let what was
//! offered first go before what has become more urgent, or whose turn it is; a shorter one would let workers wait.

use std::time::Duration;

use tokio::time::Instant;

/// As long as this.
const LENGTH: Duration = Duration::from_millis(10);
/// At least so many, so that idle workers find something at once.
const MIN: usize = 32;
/// At most so many.
const MAX: usize = 2_000;
/// Over which time what was taken is counted.
const SPAN: Duration = Duration::from_millis(100);
/// How much of each new count is believed.
const PART: f64 = 0.5;

/// The window, by what was lately taken.
#[derive(Debug)]
pub struct Window {
    since: Instant,
    count: u32,
    /// Taken in a second.
    rate: f64,
}

impl Window {
    /// A window that knows of nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            count: 0,
            rate: 0.0,
        }
    }

    /// So many were taken.
    pub fn begun(&mut self, count: u32, now: Instant) {
        self.count = self.count.saturating_add(count);
        self.pass(now);
    }

    /// How many may be out.
    pub fn size(&mut self, now: Instant) -> usize {
        self.pass(now);
        ((self.rate * LENGTH.as_secs_f64()) as usize).clamp(MIN, MAX)
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
    fn it_is_as_long_as_ten_milliseconds_of_what_is_taken() {
        let start = Instant::now();
        let mut window = Window::new(start);
        assert_eq!(window.size(start), MIN);
        for step in 1..=20 {
            window.begun(1_000, start + SPAN * step);
        }
        let size = window.size(start + SPAN * 20);
        assert!((95..=100).contains(&size), "{size}");
        let quiet = window.size(start + SPAN * 400);
        assert!(quiet < size, "{quiet}");
    }
}

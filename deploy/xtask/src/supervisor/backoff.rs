//! How long a dead child waits before it is started again.

use std::time::Duration;

/// The first delay.
pub const FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
pub const LONGEST: Duration = Duration::from_secs(5);
/// A child that lived this long begins with the first delay again.
pub const SETTLED: Duration = Duration::from_secs(30);

/// Doubles the delay with each death, until a child has lived for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The delay after a death at this age.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.next = FIRST;
        }
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST);
        delay
    }
}

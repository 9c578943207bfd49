//! How fast one credential may go: so many requests in each second, at each replica.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is left after one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Requests in a second.
    pub limit: u32,
    /// What is left of this second.
    pub remaining: u32,
    /// When there is all of it again.
    pub reset_seconds: u32,
    /// Whether this request is one too many.
    pub exceeded: bool,
}

/// A counter that begins anew each second.
#[derive(Debug)]
pub struct Pace {
    limit: u32,
    began: Instant,
    /// The second in the upper half, the requests in it in the lower.
    state: AtomicU64,
}

impl Pace {
    /// A counter with this limit.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            began: Instant::now(),
            state: AtomicU64::new(0),
        }
    }

    /// Counts one request now.
    pub fn take(&self) -> Taken {
        self.take_at(self.began.elapsed())
    }

    fn take_at(&self, elapsed: Duration) -> Taken {
        let second = elapsed.as_secs() & u64::from(u32::MAX);
        let step = |state: u64| {
            let count = if state >> 32 == second {
                state & u64::from(u32::MAX)
            } else {
                0
            };
            Some(second << 32 | (count + 1).min(u64::from(u32::MAX)))
        };
        let before = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let count = match before {
            Ok(state) | Err(state) if state >> 32 == second => (state & u64::from(u32::MAX)) + 1,
            _ => 1,
        };
        let remaining = u64::from(self.limit).saturating_sub(count);
        Taken {
            limit: self.limit,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_seconds: 1,
            exceeded: count > u64::from(self.limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_so_many_and_the_next_one_as_many_again() {
        let pace = Pace::new(3);
        for (millis, remaining, exceeded) in [
            (0, 2, false),
            (10, 1, false),
            (999, 0, false),
            (999, 0, true),
            (1_000, 2, false),
            (5_000, 2, false),
        ] {
            let taken = pace.take_at(Duration::from_millis(millis));
            assert_eq!(
                (taken.remaining, taken.exceeded),
                (remaining, exceeded),
                "at {millis} ms"
            );
        }
    }
}

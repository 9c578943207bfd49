//! The end: nothing more is claimed, handlers go on for a while, then they are asked to end and dropped, and what is left is handed
//! back.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::run::GRACE;

/// How far the end is.
#[derive(Debug)]
pub(crate) struct Drain {
    /// How long handlers may go on.
    patience: Duration,
    /// How long the last finishes may take after that.
    closing: Duration,
    /// When it began.
    began: Option<Instant>,
    /// Whether handlers were asked to end.
    asked: bool,
}

impl Drain {
    pub(crate) fn new(patience: Duration, closing: Duration) -> Self {
        Self {
            patience,
            closing,
            began: None,
            asked: false,
        }
    }

    /// It begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// Whether handlers are to be asked to end: said once.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        let due = self.began.is_some_and(|began| now >= began + self.patience);
        let first = due && !self.asked;
        self.asked |= due;
        first
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.ends_at().is_some_and(|end| now >= end)
    }

    /// When that is, once it has begun.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        Some(self.began? + self.patience + GRACE + self.closing)
    }

    /// When it goes on by itself.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        if self.asked {
            self.ends_at()
        } else {
            Some(self.began? + self.patience)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_go_on_then_are_asked_once_and_then_it_is_over() {
        let second = Duration::from_secs(1);
        let mut drain = Drain::new(30 * second, 10 * second);
        let start = Instant::now();
        assert!(!drain.has_begun() && drain.wake_at().is_none() && !drain.asks(start));
        drain.begin(start);
        drain.begin(start + 5 * second);
        assert_eq!(drain.wake_at(), Some(start + 30 * second));
        assert!(!drain.asks(start + 29 * second));
        assert!(drain.asks(start + 30 * second) && !drain.asks(start + 31 * second));
        assert!(!drain.is_over(start + 40 * second));
        assert_eq!(drain.wake_at(), Some(start + 41 * second));
        assert!(drain.is_over(start + 41 * second));
    }
}

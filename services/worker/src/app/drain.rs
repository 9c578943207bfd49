//! The end: nothing more is claimed, handlers go on for a while, then they are asked to end and dropped, and what is left is handed
//! back. After the handlers the last lines of their logs have half of what is left, and the finishes, which wait for them, have at
//! least the other half: what is done is not handed back because its log hangs.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::run::GRACE;

/// How far the end is.
#[derive(Debug)]
pub(crate) struct Drain {
    /// How long handlers may go on.
    patience: Duration,
    /// How long the last lines and the last finishes may take after them.
    closing: Duration,
    /// When it began.
    began: Option<Instant>,
    /// Since when no handler runs.
    idle: Option<Instant>,
    /// Whether handlers were asked to end.
    asked: bool,
    /// Whether the last lines had their time.
    cut: bool,
}

impl Drain {
    pub(crate) fn new(patience: Duration, closing: Duration) -> Self {
        Self {
            patience,
            closing,
            began: None,
            idle: None,
            asked: false,
            cut: false,
        }
    }

    /// It begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// No handler runs any more, and none will.
    pub(crate) fn idle(&mut self, now: Instant) {
        if self.has_begun() {
            self.idle.get_or_insert(now);
        }
    }

    /// Whether handlers are to be asked to end: said once.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        let due = self.began.is_some_and(|began| now >= began + self.patience);
        let first = due && !self.asked;
        self.asked |= due;
        first
    }

    /// Whether the last lines of logs are to be waited for no more: said once.
    pub(crate) fn cuts(&mut self, now: Instant) -> bool {
        let due = self.cut_at().is_some_and(|at| now >= at);
        let first = due && !self.cut;
        self.cut |= due;
        first
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.ends_at().is_some_and(|end| now >= end)
    }

    /// When that is, once it has begun.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        Some(self.gone_at()? + self.closing)
    }

    /// When the last lines have had their time.
    fn cut_at(&self) -> Option<Instant> {
        Some(self.gone_at()? + self.closing / 2)
    }

    /// When handlers are gone.
    fn gone_at(&self) -> Option<Instant> {
        let handlers = self.began? + self.patience + GRACE;
        Some(self.idle.map_or(handlers, |idle| idle.min(handlers)))
    }

    /// When it goes on by itself.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let asks = self.began? + self.patience;
        let asks = (!self.asked).then_some(asks);
        let cut = self.cut_at().filter(|_| !self.cut);
        [asks, cut, self.ends_at()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn handlers_go_on_then_are_asked_once_and_then_it_is_over() {
        let mut drain = Drain::new(30 * SECOND, 10 * SECOND);
        let start = Instant::now();
        assert!(!drain.has_begun() && drain.wake_at().is_none() && !drain.asks(start));
        drain.begin(start);
        drain.begin(start + 5 * SECOND);
        assert_eq!(drain.wake_at(), Some(start + 30 * SECOND));
        assert!(!drain.asks(start + 29 * SECOND));
        assert!(drain.asks(start + 30 * SECOND) && !drain.asks(start + 31 * SECOND));
        assert!(!drain.is_over(start + 40 * SECOND));
        assert_eq!(drain.wake_at(), Some(start + 36 * SECOND));
        assert!(!drain.cuts(start + 35 * SECOND));
        assert!(drain.cuts(start + 36 * SECOND) && !drain.cuts(start + 37 * SECOND));
        assert_eq!(drain.wake_at(), Some(start + 41 * SECOND));
        assert!(drain.is_over(start + 41 * SECOND));
    }

    #[test]
    fn once_no_handler_runs_only_the_finishes_are_waited_for() {
        let mut drain = Drain::new(30 * SECOND, 10 * SECOND);
        let start = Instant::now();
        drain.idle(start);
        drain.begin(start);
        assert_eq!(drain.ends_at(), Some(start + 41 * SECOND));
        drain.idle(start + 2 * SECOND);
        drain.idle(start + 5 * SECOND);
        assert_eq!(drain.wake_at(), Some(start + 7 * SECOND));
        assert!(drain.cuts(start + 7 * SECOND));
        assert_eq!(drain.wake_at(), Some(start + 12 * SECOND));
        assert!(!drain.is_over(start + 11 * SECOND) && drain.is_over(start + 12 * SECOND));
    }
}

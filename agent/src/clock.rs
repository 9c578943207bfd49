//! The agent's clock: it never falls below a time that the server has signed, and runs on the boot-time clock, so
//! that nobody who turns this machine's clock back can make a passed deadline come again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Timestamp;

/// Where times come from; tests hold their own.
pub trait TimeSource: Send + Sync {
    /// The machine's clock, which anybody may have set.
    fn wall(&self) -> Timestamp;
    /// Time since boot, suspension included, which nobody can set.
    fn boot(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTime;

impl TimeSource for SystemTime {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn boot(&self) -> Duration {
        crate::platform::boot_time()
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the agent's clock: what deadlines are compared with.
    pub now: Timestamp,
    /// Since boot: what delays are measured with.
    pub boot: Duration,
}

/// A time that moves on with the boot-time clock.
#[derive(Clone, Copy)]
struct Line {
    at: Timestamp,
    boot: Duration,
}

impl Line {
    fn at(self, boot: Duration) -> Timestamp {
        let passed = boot.saturating_sub(self.boot);
        self.at
            .plus(chrono::Duration::from_std(passed).unwrap_or(chrono::Duration::MAX))
    }

    fn raised(self, at: Timestamp, boot: Duration) -> Self {
        if at > self.at(boot) {
            Self { at, boot }
        } else {
            self
        }
    }
}

struct Lines {
    /// No time is below this one: the greatest time that the server signed.
    floor: Option<Line>,
    /// The server's time, when it was asked with a nonce since this boot: then the machine's clock is not asked.
    fresh: Option<Line>,
}

/// The agent's clock.
pub struct Clock {
    source: Box<dyn TimeSource>,
    lines: Mutex<Lines>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Clock {
    /// A clock that has seen nothing.
    pub fn new(source: impl TimeSource + 'static) -> Self {
        Self {
            source: Box::new(source),
            lines: Mutex::new(Lines {
                floor: None,
                fresh: None,
            }),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.moment().now
    }

    /// Both clocks now.
    pub fn moment(&self) -> Moment {
        let boot = self.source.boot();
        let lines = self.lines();
        let base = lines
            .fresh
            .map_or_else(|| self.source.wall(), |line| line.at(boot));
        let now = lines.floor.map_or(base, |line| line.at(boot).max(base));
        Moment { now, boot }
    }

    /// A signed time was seen, perhaps an old one: the clock is not below it from now on.
    pub fn not_before(&self, at: Timestamp) {
        let boot = self.source.boot();
        let mut lines = self.lines();
        lines.floor = Some(
            lines
                .floor
                .map_or(Line { at, boot }, |line| line.raised(at, boot)),
        );
    }

    /// The server said its time just now, in answer to our nonce.
    pub fn server_says(&self, at: Timestamp) {
        self.not_before(at);
        let boot = self.source.boot();
        let mut lines = self.lines();
        lines.fresh = Some(
            lines
                .fresh
                .map_or(Line { at, boot }, |line| line.raised(at, boot)),
        );
    }

    /// What the journal remembers of the floor: `boot` is when it was noted, if that was in this boot.
    pub fn restore(&self, at: Timestamp, boot: Option<Duration>) {
        match boot {
            Some(then) if then <= self.source.boot() => {
                let noted = Line { at, boot: then };
                let mut lines = self.lines();
                let higher = lines.floor.is_none_or(|line| line.at(then) < at);
                if higher {
                    lines.floor = Some(noted);
                }
            }
            _ => self.not_before(at),
        }
    }

    /// The floor now, for the journal.
    pub fn floor(&self) -> Option<(Timestamp, Duration)> {
        let boot = self.source.boot();
        self.lines().floor.map(|line| (line.at(boot), boot))
    }
}

/// Gives times that strictly increase, whatever the clock does.
#[derive(Debug)]
pub struct Increasing {
    last: Option<Timestamp>,
}

impl Increasing {
    /// Continues after `last`.
    #[must_use]
    pub fn after(last: Option<Timestamp>) -> Self {
        Self { last }
    }

    /// `now`, or a millisecond after the last one.
    pub fn next(&mut self, now: Timestamp) -> Timestamp {
        let at = self.last.map_or(now, |last| {
            now.max(last.plus(chrono::Duration::milliseconds(1)))
        });
        self.last = Some(at);
        at
    }
}

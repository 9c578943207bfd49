//! The agent's clock: it never falls below a time that the server has signed, and runs on the boot-time clock, so
//! that nobody who turns this machine's clock back can make a passed deadline come again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Timestamp;

use crate::journal::Record;

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

    /// Takes from a record of the journal what the clock must not fall below; `boot` is the boot of this life.
    ///
    /// The floor itself is noted now and then and not synced. But what is accepted and begun is synced, after the
    /// server's first word only, with a time of this clock: at that moment the clock had only times that the server
    /// had signed, and was below none of them. So a power failure costs the floor nothing that an action was ever
    /// judged by.
    pub fn remember(&self, record: &Record, boot: &str) {
        let signed = match record {
            Record::Clock {
                at,
                boot: noted,
                uptime_ms,
            } => {
                let same = crate::platform::is_same_boot(noted, boot);
                return self.restore(*at, same.then(|| Duration::from_millis(*uptime_ms)));
            }
            Record::Accepted { issued, at, .. } => Some(*at.max(issued)),
            Record::Started { at, .. } => Some(*at),
            Record::Ended(ended) => ended.started_at.max(ended.accepted_at),
            _ => None,
        };
        if let Some(at) = signed {
            self.not_before(at);
        }
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

    /// Whether the server has said its time since this process began: then this clock is as right as the server's.
    pub fn is_told(&self) -> bool {
        self.lines().fresh.is_some()
    }

    /// The floor now, for the journal.
    pub fn floor(&self) -> Option<(Timestamp, Duration)> {
        let boot = self.source.boot();
        self.lines().floor.map(|line| (line.at(boot), boot))
    }
}

/// How far ahead of the server's clock a sample's time may be: the server takes none that is later.
pub const AHEAD_MAX: chrono::Duration = chrono::Duration::minutes(10);
/// How far behind the server's clock a sample's time may be: the server keeps samples so long (`RETENTION` of the
/// metrics service), and takes none that is older.
pub const BEHIND_MAX: chrono::Duration = chrono::Duration::days(7);

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

    /// The last time that was given; at first the one to continue after.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        self.last
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

//! For how long this worker may run what it has: counted from when it *sent* the last question that was answered, by a clock
//! that nobody sets and that goes on while the machine is suspended or the process is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use domain::execution::{LEASE_DOUBTED, LEASE_OVER, LEASE_RENEW};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use uuid::Uuid;

/// Time since boot, suspension included.
#[cfg(target_os = "linux")]
#[must_use]
pub fn boot_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Time since the first call. Where workers are developed, and not run.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn boot_now() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

/// What a lease of some length allows, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    /// How often it is renewed.
    renew: Duration,
    /// After so long without an answer nothing is asked for any more.
    doubted: Duration,
    /// After so long handlers are ended.
    over: Duration,
}

impl Terms {
    /// For the scheduler's ten seconds these are the two, seven and eight of the design; a shorter lease is divided alike.
    fn of(lease: Duration) -> Self {
        Self {
            renew: LEASE_RENEW.min(lease / 5),
            doubted: LEASE_DOUBTED.min(lease * 7 / 10),
            over: LEASE_OVER.min(lease * 8 / 10),
        }
    }
}

/// The session with the scheduler, and how long it surely holds.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    terms: Terms,
    /// When the last question that was answered had been sent, in nanoseconds since boot.
    asked: AtomicU64,
    over: CancellationToken,
    lost: AtomicBool,
}

impl Session {
    /// A session that was asked for then, and is held for `lease`.
    #[must_use]
    pub fn begun(id: Uuid, asked: Duration, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            id,
            terms: Terms::of(lease),
            asked: AtomicU64::new(nanos(asked)),
            over: CancellationToken::new(),
            lost: AtomicBool::new(false),
        })
    }

    /// A question that was sent then was answered. One that was sent earlier changes nothing.
    pub fn renewed(&self, asked: Duration) {
        self.asked.fetch_max(nanos(asked), Ordering::AcqRel);
    }

    /// How often to renew it.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.terms.renew
    }

    /// How long handlers may still run; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left_at(boot_now())
    }

    fn left_at(&self, now: Duration) -> Duration {
        let asked = Duration::from_nanos(self.asked.load(Ordering::Acquire));
        (asked + self.terms.over).saturating_sub(now)
    }

    /// Whether it has not been answered for so long that nothing may be asked for any more.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.is_doubted_at(boot_now())
    }

    fn is_doubted_at(&self, now: Duration) -> bool {
        let asked = Duration::from_nanos(self.asked.load(Ordering::Acquire));
        self.over.is_cancelled() || now >= asked + self.terms.doubted
    }

    /// Whether handlers must not take another step: looked at before each of them. Once it is over it stays so: a handler that was
    /// dropped for this is gone, and an answer that comes too late must not leave its execution to nobody.
    #[must_use]
    pub fn is_over(&self) -> bool {
        if !self.over.is_cancelled() && self.left().is_zero() {
            self.end();
        }
        self.over.is_cancelled()
    }

    /// Ends it here, whatever the scheduler thinks: handlers are ended, and nothing begins in it.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// The scheduler says that it has expired: what it had is somebody else's.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.over.cancel();
    }

    /// Whether the scheduler said so: finishes of it are in vain.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until it is ended. (Whether its time is up is looked at by whoever keeps it.)
    pub fn over(&self) -> WaitForCancellationFuture<'_> {
        self.over.cancelled()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use domain::execution::LEASE;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_usual_lease_has_the_terms_of_the_design() {
        let terms = Terms::of(LEASE);
        assert_eq!(
            (terms.renew, terms.doubted, terms.over),
            (LEASE_RENEW, LEASE_DOUBTED, LEASE_OVER)
        );
        assert_eq!(Terms::of(SECOND).over, Duration::from_millis(800));
    }

    #[test]
    fn it_counts_from_when_the_answered_question_was_sent() {
        let start = Duration::from_secs(100);
        let session = Session::begun(Uuid::now_v7(), start, LEASE);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(!session.is_doubted_at(at(6)) && session.is_doubted_at(at(7)));
        assert_eq!(session.left_at(at(5)), 3 * SECOND);
        assert!(session.left_at(at(8)).is_zero());
        session.renewed(at(4));
        session.renewed(at(2));
        assert!(!session.is_doubted_at(at(10)) && session.is_doubted_at(at(11)));
        assert!(session.left_at(at(12)).is_zero());
    }

    #[test]
    fn what_is_ended_is_over_at_once() {
        let session = Session::begun(Uuid::now_v7(), boot_now(), LEASE);
        assert!(!session.is_over() && !session.is_doubted());
        session.end();
        assert!(session.is_over() && session.is_doubted() && !session.is_lost());
        session.lose();
        assert!(session.is_lost());
    }

    #[test]
    fn what_was_over_once_is_not_renewed() {
        let asked = boot_now().saturating_sub(LEASE);
        let begun = || Session::begun(Uuid::now_v7(), asked, LEASE);
        let (seen, unseen) = (begun(), begun());
        assert!(seen.is_over());
        for session in [&seen, &unseen] {
            session.renewed(boot_now());
        }
        assert!(seen.is_over() && !unseen.is_over());
    }

    #[test]
    fn the_clock_goes_on() {
        let (one, other) = (boot_now(), boot_now());
        assert!(other >= one && one < Duration::from_secs(100 * 365 * 24 * 3_600));
    }
}

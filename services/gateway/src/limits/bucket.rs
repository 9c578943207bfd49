//! What is left of one limit for one subject. It can go into debt: what another replica took is taken here too, however
//! little is left, and paid back before anything more is let through. One atomic word, and no lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::class::{Class, Limit, MINUTE, Refill};
use crate::error::Refused;

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The deepest debt of what comes back evenly. Honest replicas stay far above; whoever lies cannot do more.
const DEBT_MAX: u64 = 5 * SECOND;
/// The bits of the word that count requests of a minute; the others say when it began, in milliseconds.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The name of a subject: what is counted, without saying who it is.
pub type Name = [u8; 16];

/// What is left after one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What is limited.
    pub class: Class,
    /// Requests in a second or minute.
    pub limit: u32,
    /// The time that `limit` is for, in a word.
    pub unit: &'static str,
    /// What may still be taken now.
    pub remaining: u32,
    /// When there is all of it again.
    pub reset_seconds: u32,
    /// The request was one too many: when one may be taken again.
    pub refused: Option<Duration>,
}

impl Taken {
    /// The one of two that holds back more.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let other_is = other.refused.is_some() || other.remaining < self.remaining;
        if self.refused.is_none() && other_is {
            other
        } else {
            self
        }
    }

    /// Refuses when it was one too many.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn admit(&self) -> Result<(), Refused> {
        match self.refused {
            None => Ok(()),
            Some(wait) => {
                let (limit, what, unit) = (self.limit, self.class.what(), self.unit);
                let detail = format!("more than {limit} {what} in this {unit}");
                Err(Refused::rate_limited(detail, wait))
            }
        }
    }
}

/// What is left of one limit for one subject.
#[derive(Debug)]
pub struct Bucket {
    /// What is limited.
    pub class: Class,
    /// For whom.
    pub name: Name,
    limit: Limit,
    /// Of what comes back evenly: when all of it is back, in nanoseconds. Of a minute: when it began, and how many were
    /// taken in it.
    state: AtomicU64,
    /// Taken here, and not yet told to the others.
    untold: AtomicU32,
    /// Whether it waits to be told.
    pub waits: AtomicBool,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(class: Class, name: Name, limit: Limit) -> Self {
        Self {
            class,
            name,
            limit,
            state: AtomicU64::new(0),
            untold: AtomicU32::new(0),
            waits: AtomicBool::new(false),
        }
    }

    /// Takes one at this time, if there is one.
    pub fn take_at(&self, elapsed: Duration) -> Taken {
        let now = Now::of(elapsed);
        let step = |state| self.limit.taken(state, now);
        match self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
        {
            Ok(before) => {
                let after = self.limit.taken(before, now).unwrap_or(before);
                self.said(after, now, None)
            }
            Err(state) => self.said(state, now, Some(self.limit.wait(state, now))),
        }
    }

    /// Takes so many at this time, whether they are there or not.
    pub fn charge_at(&self, count: u32, elapsed: Duration) {
        let now = Now::of(elapsed);
        let step = |state| Some(self.limit.charged(state, u64::from(count), now));
        let _always = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// How long until one may be taken; nothing when one may be now.
    pub fn wait_at(&self, elapsed: Duration) -> Option<Duration> {
        let (now, state) = (Now::of(elapsed), self.state.load(Ordering::Relaxed));
        self.limit
            .taken(state, now)
            .is_none()
            .then(|| self.limit.wait(state, now))
    }

    fn said(&self, state: u64, now: Now, refused: Option<Duration>) -> Taken {
        let reset = self
            .limit
            .reset(state, now)
            .max(refused.unwrap_or_default());
        let reset = reset.as_millis().div_ceil(1_000).max(1);
        Taken {
            class: self.class,
            limit: self.limit.amount,
            unit: self.limit.unit(),
            remaining: u32::try_from(self.limit.left(state, now)).unwrap_or(u32::MAX),
            reset_seconds: u32::try_from(reset).unwrap_or(u32::MAX),
            refused,
        }
    }

    /// Notes what was taken here; whether it is time that the others hear of it.
    pub fn note(&self, count: u32) -> bool {
        let before = self.untold.fetch_add(count, Ordering::Relaxed);
        before.saturating_add(count) >= self.limit.told_from()
            && !self.waits.swap(true, Ordering::Relaxed)
    }

    /// What the others have not heard of, which they now do.
    pub fn tell(&self) -> u32 {
        self.waits.store(false, Ordering::Relaxed);
        self.untold.swap(0, Ordering::Relaxed)
    }
}

/// A time, as states write it.
#[derive(Clone, Copy)]
struct Now {
    nanos: u64,
    millis: u64,
}

impl Now {
    fn of(elapsed: Duration) -> Self {
        // 584 years.
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanos,
            millis: nanos / 1_000_000,
        }
    }
}

const MINUTE_MILLIS: u64 = MINUTE.as_millis() as u64;

impl Limit {
    fn amount(&self) -> u64 {
        u64::from(self.amount)
    }

    /// The time in which one comes back, in nanoseconds.
    fn step(&self) -> u64 {
        (SECOND / self.amount().max(1)).max(1)
    }

    /// The state after one more; nothing when there is none to take.
    fn taken(&self, state: u64, now: Now) -> Option<u64> {
        if self.amount == 0 {
            return None;
        }
        match self.refill {
            Refill::Steady { burst } => {
                let full_at = state.max(now.nanos).saturating_add(self.step());
                let latest = now.nanos.saturating_add(self.step() * u64::from(burst));
                (full_at <= latest).then_some(full_at)
            }
            Refill::Minute => {
                let (began, count) = self.current(state, now);
                (count < self.amount()).then(|| pack(began, count + 1))
            }
        }
    }

    /// The state after so many more, into debt.
    fn charged(&self, state: u64, count: u64, now: Now) -> u64 {
        match self.refill {
            Refill::Steady { burst } => {
                let full_at = state
                    .max(now.nanos)
                    .saturating_add(self.step().saturating_mul(count));
                let deepest = now
                    .nanos
                    .saturating_add(self.step() * u64::from(burst))
                    .saturating_add(DEBT_MAX);
                full_at.min(deepest).max(state)
            }
            Refill::Minute => {
                let (began, before) = self.current(state, now);
                let deepest = self.amount().saturating_mul(2).max(before);
                pack(began, before.saturating_add(count).min(deepest))
            }
        }
    }

    /// How long until one may be taken, when none may be now.
    fn wait(&self, state: u64, now: Now) -> Duration {
        if self.amount == 0 {
            return Duration::from_secs(1);
        }
        match self.refill {
            Refill::Steady { burst } => {
                let full_at = state.max(now.nanos).saturating_add(self.step());
                let latest = now.nanos.saturating_add(self.step() * u64::from(burst));
                Duration::from_nanos(full_at.saturating_sub(latest))
            }
            Refill::Minute => {
                let (began, count) = self.current(state, now);
                let minutes = (count / self.amount()).max(1);
                let at = began.saturating_add(minutes.saturating_mul(MINUTE_MILLIS));
                Duration::from_millis(at.saturating_sub(now.millis))
            }
        }
    }

    /// How many may be taken now.
    fn left(&self, state: u64, now: Now) -> u64 {
        match self.refill {
            Refill::Steady { burst } => {
                let latest = now.nanos.saturating_add(self.step() * u64::from(burst));
                let left = latest.saturating_sub(state.max(now.nanos)) / self.step();
                left.min(u64::from(burst))
            }
            Refill::Minute => self.amount().saturating_sub(self.current(state, now).1),
        }
    }

    /// How long until all of it is there.
    fn reset(&self, state: u64, now: Now) -> Duration {
        match self.refill {
            Refill::Steady { .. } => Duration::from_nanos(state.saturating_sub(now.nanos)),
            Refill::Minute => {
                let (began, _) = self.current(state, now);
                Duration::from_millis((began + MINUTE_MILLIS).saturating_sub(now.millis))
            }
        }
    }

    /// The minute that is now, when it began, and how many were taken in it: what was taken beyond the limit of one is taken
    /// from the next.
    fn current(&self, state: u64, now: Now) -> (u64, u64) {
        let (began, count) = (state >> COUNT_BITS, state & COUNT_MAX);
        let passed = now.millis.saturating_sub(began) / MINUTE_MILLIS;
        if count > 0 && passed == 0 {
            return (began, count);
        }
        match count.saturating_sub(passed.saturating_mul(self.amount())) {
            0 => (now.millis, 0),
            debt => (began + passed * MINUTE_MILLIS, debt),
        }
    }
}

fn pack(began: u64, count: u64) -> u64 {
    began << COUNT_BITS | count.min(COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(limit: Limit) -> Bucket {
        Bucket::new(Class::Requests, [0; 16], limit)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many of those who ask each millisecond are let through.
    fn hammered(bucket: &Bucket, from: u64, to: u64) -> u64 {
        let taken = (from..to).filter(|at| bucket.take_at(millis(*at)).refused.is_none());
        taken.count() as u64
    }

    #[test]
    fn what_is_taken_comes_back_evenly() {
        let bucket = bucket(Limit::at_once(4));
        for remaining in [3, 2, 1, 0] {
            let taken = bucket.take_at(millis(0));
            assert_eq!((taken.remaining, taken.refused), (remaining, None));
        }
        let taken = bucket.take_at(millis(100));
        assert_eq!(
            (taken.remaining, taken.refused, taken.reset_seconds),
            (0, Some(millis(150)), 1)
        );
        assert_eq!(bucket.wait_at(millis(249)), Some(millis(1)));
        assert_eq!(bucket.wait_at(millis(250)), None);
        assert_eq!(bucket.take_at(millis(250)).refused, None);
        assert!(bucket.take_at(millis(250)).refused.is_some());
        assert_eq!(
            bucket.take_at(millis(10_000)).remaining,
            3,
            "full, not more"
        );
    }

    #[test]
    fn under_any_pressure_no_second_sees_more_than_a_quarter_above_the_limit() {
        let bucket = bucket(Limit::steady(200));
        for second in 0..5 {
            let taken = hammered(&bucket, second * 1_000, (second + 1) * 1_000);
            assert!((199..=250).contains(&taken), "{taken} in second {second}");
        }
    }

    #[test]
    fn what_others_took_is_paid_before_anything_more() {
        let bucket = bucket(Limit::steady(200));
        assert_eq!(hammered(&bucket, 0, 1_000), 249);
        bucket.charge_at(200, millis(1_000));
        let wait = bucket.wait_at(millis(1_000)).expect("debt");
        assert!((millis(995)..=millis(1_005)).contains(&wait), "{wait:?}");
        let taken = bucket.take_at(millis(1_000));
        assert_eq!((taken.remaining, taken.reset_seconds), (0, 2));
        assert_eq!(hammered(&bucket, 1_000, 2_000), 0);
        assert_eq!(hammered(&bucket, 2_000, 3_000), 200);
    }

    #[test]
    fn no_claim_makes_a_debt_deeper_than_five_seconds() {
        let bucket = bucket(Limit::steady(200));
        for _ in 0..1_000 {
            bucket.charge_at(u32::MAX, millis(0));
        }
        let wait = bucket.wait_at(millis(0)).expect("debt");
        assert!((millis(5_000)..millis(5_010)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn a_minute_holds_so_many_and_the_next_one_as_many_again() {
        let bucket = bucket(Limit::minute(3));
        for remaining in [2, 1, 0] {
            let taken = bucket.take_at(millis(500));
            assert_eq!((taken.remaining, taken.refused), (remaining, None));
        }
        let taken = bucket.take_at(millis(20_500));
        assert_eq!(
            (taken.refused, taken.reset_seconds),
            (Some(millis(40_000)), 40)
        );
        assert_eq!(bucket.take_at(millis(60_500)).remaining, 2);
    }

    #[test]
    fn what_others_took_of_a_minute_is_taken_from_the_next_ones_too_but_one_at_most() {
        let bucket = bucket(Limit::minute(10));
        bucket.charge_at(15, millis(0));
        assert_eq!(bucket.wait_at(millis(0)), Some(millis(60_000)));
        assert_eq!(bucket.take_at(millis(60_000)).remaining, 4);
        bucket.charge_at(u32::MAX, millis(60_000));
        assert_eq!(bucket.wait_at(millis(60_000)), Some(millis(120_000)));
        assert_eq!(bucket.take_at(millis(180_000)).remaining, 9);
    }

    #[test]
    fn a_limit_of_nothing_lets_nothing_through() {
        for limit in [Limit::steady(0), Limit::minute(0)] {
            let bucket = bucket(limit);
            bucket.charge_at(3, millis(0));
            for at in [0, 1_000, 100_000] {
                let taken = bucket.take_at(millis(at));
                assert!(taken.refused.is_some() && taken.remaining == 0);
            }
        }
    }

    #[test]
    fn others_are_told_of_what_matters_and_of_all_of_it() {
        let bucket = bucket(Limit::steady(1_000));
        let news: Vec<bool> = (0..7).map(|_| bucket.note(1)).collect();
        assert_eq!(
            news,
            [false, false, false, false, true, false, false],
            "once, from the fifth on"
        );
        assert_eq!((bucket.tell(), bucket.tell()), (7, 0));
        assert!(!bucket.note(1) && bucket.note(4));
    }
}

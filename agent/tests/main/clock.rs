//! The clock: never below what the server signed, whatever the machine's own clock says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dashfleet_agent::clock::{Clock, Increasing, TimeSource};
use dashfleet_agent::journal::Record;
use dashfleet_agent::journal::record::Ended;
use domain::Timestamp;
use domain::action::{ActionKind, Outcome};
use proptest::prelude::*;

use super::task::time;

#[derive(Clone, Default)]
struct Hands {
    wall: Arc<AtomicI64>,
    boot: Arc<AtomicU64>,
}

impl TimeSource for Hands {
    fn wall(&self) -> Timestamp {
        time(self.wall.load(Ordering::Relaxed))
    }
    fn boot(&self) -> Duration {
        Duration::from_millis(self.boot.load(Ordering::Relaxed))
    }
}

impl Hands {
    fn set(&self, wall: i64, boot: u64) {
        self.wall.store(wall, Ordering::Relaxed);
        self.boot.store(boot, Ordering::Relaxed);
    }
}

#[test]
fn turning_the_machines_clock_back_changes_nothing() {
    let hands = Hands::default();
    hands.set(1_000, 0);
    let clock = Clock::new(hands.clone());
    assert_eq!(clock.now(), time(1_000));
    clock.not_before(time(5_000));
    assert_eq!(clock.now(), time(5_000));
    hands.set(-1_000_000, 2_000);
    assert_eq!(clock.now(), time(7_000), "it runs on the boot-time clock");
}

#[test]
fn an_old_signed_time_does_not_hold_back_a_right_clock() {
    let hands = Hands::default();
    hands.set(100_000, 0);
    let clock = Clock::new(hands);
    clock.not_before(time(5));
    assert_eq!(clock.now(), time(100_000));
}

#[test]
fn the_servers_own_word_corrects_a_clock_that_is_ahead() {
    let hands = Hands::default();
    hands.set(9_000_000, 0);
    let clock = Clock::new(hands.clone());
    clock.server_says(time(10_000));
    assert_eq!(clock.now(), time(10_000));
    hands.set(9_500_000, 500);
    assert_eq!(clock.now(), time(10_500));
}

#[test]
fn the_floor_outlives_the_process_and_the_boot() {
    let hands = Hands::default();
    hands.set(0, 70_000);
    // The same boot: the floor has moved on since it was noted.
    let clock = Clock::new(hands.clone());
    clock.restore(time(50_000), Some(Duration::from_millis(60_000)));
    assert_eq!(clock.now(), time(60_000));
    // Another boot: it stands where it was.
    let clock = Clock::new(hands);
    clock.restore(time(50_000), None);
    assert_eq!(clock.now(), time(50_000));
    assert_eq!(
        clock.floor(),
        Some((time(50_000), Duration::from_millis(70_000)))
    );
}

#[test]
fn a_power_failure_costs_the_floor_nothing_that_was_synced_with_an_action() {
    let task = super::task::task(1, ActionKind::Ping);
    let (action, attempt) = (task.action, task.attempt);
    let accepted = Record::Accepted {
        task,
        at: time(9_000),
        issued: time(5_000),
    };
    let started = Record::Started {
        action,
        attempt,
        at: time(9_500),
        session: super::task::life("").session,
        boot: "boot-a".into(),
    };
    let ended = |accepted_at, started_at| {
        Record::Ended(Arc::new(Ended {
            action,
            attempt,
            seq: 1,
            kind: ActionKind::Ping,
            not_after: time(1),
            idempotent: false,
            outcome: Outcome::Expired,
            result: None,
            error: None,
            accepted_at,
            started_at,
            // Perhaps of the machine's own clock: an interruption is noted before the server's first word.
            finished_at: time(99_000_000),
            traceparent: None,
            reported: false,
        }))
    };
    for (record, floor) in [
        (accepted, Some(time(9_000))),
        (started, Some(time(9_500))),
        (
            ended(Some(time(7_000)), Some(time(7_500))),
            Some(time(7_500)),
        ),
        (ended(None, None), None),
    ] {
        let clock = Clock::new(Hands::default());
        clock.remember(&record, "boot-b");
        assert_eq!(clock.floor().map(|(at, _)| at), floor, "{record:?}");
    }
}

#[test]
fn samples_have_strictly_increasing_times() {
    let mut times = Increasing::after(Some(time(10)));
    assert_eq!(times.next(time(5)), time(11));
    assert_eq!(times.next(time(11)), time(12));
    assert_eq!(times.next(time(500)), time(500));
    assert_eq!(times.last(), Some(time(500)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_clock_is_never_below_what_was_signed(
        steps in proptest::collection::vec((any::<bool>(), -50_000..50_000i64, 0..5_000u64, -50_000..50_000i64), 1..40)
    ) {
        let hands = Hands::default();
        let clock = Clock::new(hands.clone());
        let mut boot = 0;
        let mut greatest = None;
        for (fresh, signed, passed, wall) in steps {
            boot += passed;
            hands.set(wall, boot);
            if fresh { clock.server_says(time(signed)) } else { clock.not_before(time(signed)) }
            greatest = greatest.max(Some(time(signed)));
            prop_assert!(Some(clock.now()) >= greatest);
        }
    }
}

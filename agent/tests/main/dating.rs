//! Times of samples that were taken before anybody had told the agent what time it is: its machine's clock may say
//! anything then, and the server takes no sample of a wrong one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::agent::Sample;
use dashfleet_agent::buffer::segment::Taken;
use dashfleet_agent::buffer::{Bounds, Buffer};
use dashfleet_agent::clock::{AHEAD_MAX, Clock, TimeSource};
use dashfleet_agent::collect::Optional;
use dashfleet_agent::collect::sampler::Sampler;
use dashfleet_agent::platform;
use domain::Timestamp;
use testkit::{Folder, eventually};

use super::buffer::sample;
use super::task::time;
use super::world::{PATIENCE, World};

const SMALL: Bounds = Bounds {
    total: 1024 * 1024,
    segment: 2_048,
    batch: 64 * 1024,
    memory: 4,
};

fn taken(boot: &str, uptime_ms: u64) -> Option<Taken> {
    Some(Taken {
        boot: boot.to_owned(),
        uptime_ms,
    })
}

/// What somebody knows who knows when the boot `now` began.
fn since(began: i64) -> impl Fn(&Taken) -> Option<Timestamp> {
    move |taken: &Taken| {
        let uptime = i64::try_from(taken.uptime_ms).unwrap();
        (taken.boot == "now").then(|| time(began + uptime))
    }
}

fn times(buffer: &mut Buffer) -> Vec<Timestamp> {
    let batch = buffer.batch().unwrap();
    batch.iter().map(|sample| sample.at).collect()
}

#[test]
fn what_a_wrong_clock_has_dated_gets_its_own_time_once_and_the_rest_stays() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for at in 1..=5 {
        buffer.push_taken(sample(at * 1_000), taken("before", 7));
    }
    buffer.acknowledge(time(2_000)).unwrap();
    // A boot with a clock that stands behind all that was dated before: times go on by milliseconds.
    for number in 1..=20_i64 {
        buffer.push_taken(
            sample(5_000 + number),
            taken("now", 1_000 * number.unsigned_abs()),
        );
    }
    let began = 1_000_000;
    let limit = time(100_000_000);
    assert_eq!(buffer.redate(since(began), limit).unwrap(), 20);
    let mut expected: Vec<_> = (3..=5).map(|at| time(at * 1_000)).collect();
    expected.extend((1..=20).map(|number| time(began + 1_000 * number)));
    assert_eq!(times(&mut buffer), expected);
    assert_eq!(buffer.last(), expected.last().copied());
    // What is right is not put right again, in this life or the next.
    for _ in 0..2 {
        assert_eq!(buffer.redate(since(began + 20_000), limit).unwrap(), 0);
        buffer = Buffer::open(folder.path(), SMALL).unwrap();
        assert_eq!(times(&mut buffer), expected);
    }
    buffer.acknowledge(time(began + 10_000)).unwrap();
    buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(times(&mut buffer), expected[13..]);
    assert_eq!(buffer.dropped(), 0);
}

#[test]
fn of_a_clock_that_was_ahead_this_boots_samples_come_back_and_those_of_others_go() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    let hour = 3_600_000_i64;
    for number in 1..=5_i64 {
        buffer.push_taken(
            sample(hour + number),
            taken("before", number.unsigned_abs()),
        );
    }
    for number in 1..=5_i64 {
        let at = 2 * hour + 100 * number;
        buffer.push_taken(sample(at), taken("now", 100 * number.unsigned_abs()));
    }
    // And one of which nobody knows when it was taken.
    buffer.push_taken(sample(2 * hour + 600), None);
    assert_eq!(buffer.redate(since(0), time(600_000)).unwrap(), 5);
    let expected: Vec<_> = (1..=5).map(|number| time(100 * number)).collect();
    assert_eq!(times(&mut buffer), expected);
    // Times go on from there, and not from where the wrong clock stood.
    assert_eq!(buffer.last(), Some(time(500)));
}

#[test]
fn times_increase_whatever_was_dated_by_whom() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    // Five minutes ahead, in another boot: the server takes that.
    buffer.push_taken(sample(300_000), taken("before", 1));
    buffer.acknowledge(time(300_000)).unwrap();
    for number in 1..=3_i64 {
        let at = 9_000_000 + number;
        buffer.push_taken(sample(at), taken("now", 1_000 * number.unsigned_abs()));
    }
    buffer.redate(since(0), time(600_000)).unwrap();
    let after = [300_001, 300_002, 300_003].map(time);
    assert_eq!(
        times(&mut buffer),
        after,
        "never before what is acknowledged"
    );
}

/// What a clock that was ten hours ahead has left: the server refused the first of it, and said so when the last was on
/// the disk. Gives the buffer, and the times that are right for what waits.
fn refused_ahead(folder: &Folder) -> (Buffer, Vec<Timestamp>) {
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for number in 1..=30_i64 {
        let at = 36_000_000 + 1_000 * number;
        buffer.push_taken(sample(at), taken("now", 1_000 * number.unsigned_abs()));
    }
    buffer.acknowledge(time(36_002_000)).unwrap();
    let right = (3..=30).map(|number| time(BEGAN + 1_000 * number));
    (buffer, right.collect())
}

/// When the boot `now` began, and up to when the server takes samples.
const BEGAN: i64 = 1_000_000;
const LIMIT: i64 = BEGAN + 600_000;

/// Re-dates, and dies before it has looked at the sample of this number.
fn redate_and_die(mut buffer: Buffer, dies_at: usize) -> bool {
    let looks = std::cell::Cell::new(0);
    let right = |taken: &Taken| {
        assert!(looks.replace(looks.get() + 1) < dies_at, "it dies here");
        since(BEGAN)(taken)
    };
    let redate = std::panic::AssertUnwindSafe(|| buffer.redate(right, time(LIMIT)).unwrap());
    std::panic::catch_unwind(redate).is_err()
}

/// The files of a buffer, in their order.
fn files(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn whoever_dies_while_samples_are_dated_anew_loses_none() {
    for dies_at in 0.. {
        let folder = Folder::new("dating");
        let (buffer, right) = refused_ahead(&folder);
        let died = redate_and_die(buffer, dies_at);
        let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
        buffer.redate(since(BEGAN), time(LIMIT)).unwrap();
        assert_eq!(times(&mut buffer), right, "died at {dies_at}");
        assert_eq!(buffer.last(), right.last().copied());
        if !died {
            assert_eq!(dies_at, right.len(), "each was looked at once");
            break;
        }
    }
}

#[test]
fn whoever_dies_while_acknowledgements_of_a_wrong_clock_are_taken_back_loses_nothing() {
    let folder = Folder::new("dating");
    let (buffer, right) = refused_ahead(&folder);
    let before = files(folder.path());
    // No time is another one yet, and all that was to go before is gone.
    assert!(redate_and_die(buffer, 0));
    let after = files(folder.path());
    assert!(before.len() > 3 && before.len() == after.len());
    assert!(before.first() != after.first() && before.last() != after.last());
    for count in 0..=before.len() {
        let folder = Folder::new("dating");
        for (name, text) in after[..count].iter().chain(&before[count..]) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
        buffer.redate(since(BEGAN), time(LIMIT)).unwrap();
        assert_eq!(times(&mut buffer), right, "died after {count} files");
        // Nor does a life after that find anything acknowledged.
        drop(buffer);
        let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
        assert_eq!(times(&mut buffer), right, "after {count} files");
    }
}

#[test]
fn what_an_interruption_left_half_written_is_removed() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    buffer.push(sample(1));
    drop(buffer);
    let half = folder.path().join("000000000001.new");
    std::fs::write(&half, b"{\"sample\":{").unwrap();
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert!(!half.exists());
    assert_eq!(times(&mut buffer), [time(1)]);
}

#[test]
fn what_was_sent_keeps_its_time_whatever_is_known_later_also_in_the_next_life() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    let (hour, limit) = (3_600_000, time(4_200_000));
    for number in 1..=20_i64 {
        buffer.push_taken(
            sample(1_000 * number),
            taken("now", 1_000 * number.unsigned_abs()),
        );
    }
    buffer.sending(time(6_000)).unwrap();
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(buffer.redate(since(hour), limit).unwrap(), 14);
    let mut expected: Vec<_> = (1..=6).map(|number| time(1_000 * number)).collect();
    expected.extend((7..=20).map(|number| time(hour + 1_000 * number)));
    assert_eq!(times(&mut buffer), expected);
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(buffer.redate(since(hour), limit).unwrap(), 0);
    buffer.acknowledge(time(6_000)).unwrap();
    assert_eq!(times(&mut buffer), expected[6..]);
}

#[test]
fn what_was_sent_with_times_that_no_server_takes_is_dated_anew_and_marks_nothing() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for number in 1..=6_i64 {
        // A minute ahead, which a server takes; then ten hours.
        let ahead = if number <= 3 { 60_000 } else { 36_000_000 };
        let uptime = 1_000 * number;
        buffer.push_taken(
            sample(BEGAN + uptime + ahead),
            taken("now", uptime.unsigned_abs()),
        );
    }
    buffer.sending(buffer.last().unwrap()).unwrap();
    buffer.redate(since(BEGAN), time(LIMIT)).unwrap();
    let mut expected: Vec<_> = (1..=3).map(|n| time(BEGAN + 60_000 + 1_000 * n)).collect();
    expected.extend((1..=3).map(|after| time(BEGAN + 63_000 + after)));
    assert_eq!(times(&mut buffer), expected, "never before what was sent");
    // What comes later was not sent, whatever a mark of the wrong clock said.
    for _ in 0..2 {
        buffer = Buffer::open(folder.path(), SMALL).unwrap();
        assert_eq!(times(&mut buffer), expected);
        let number = i64::try_from(expected.len()).unwrap();
        let uptime = 100_000 * number;
        buffer.push_taken(
            sample(BEGAN + uptime + 60_000),
            taken("now", uptime.unsigned_abs()),
        );
        assert_eq!(buffer.redate(since(BEGAN), time(LIMIT * 2)).unwrap(), 1);
        expected.push(time(BEGAN + uptime));
        assert_eq!(times(&mut buffer), expected);
    }
}

/// A month before the boot `now` began: no server takes that.
const TOO_OLD: i64 = BEGAN - 30 * 86_400_000;
/// An hour before it.
const BEHIND: i64 = BEGAN - 3_600_000;

/// Keeps samples of the boot `now`, the first of which was taken a second after its begin, and each one a second later.
/// The clock was wrong: at the boot's begin it stood there.
fn push_wrong(buffer: &mut Buffer, stood: i64, numbers: std::ops::RangeInclusive<i64>) {
    for uptime in numbers.map(|number| 1_000 * number) {
        buffer.push_taken(sample(stood + uptime), taken("now", uptime.unsigned_abs()));
    }
}

#[test]
fn what_was_sent_with_times_too_old_for_any_server_is_dated_anew() {
    let folder = Folder::new("dating");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    push_wrong(&mut buffer, TOO_OLD, 1..=10);
    buffer.sending(buffer.last().unwrap()).unwrap();
    assert_eq!(buffer.redate(since(BEGAN), time(LIMIT)).unwrap(), 10);
    let expected: Vec<_> = (1..=10)
        .map(|number| time(BEGAN + 1_000 * number))
        .collect();
    assert_eq!(times(&mut buffer), expected);
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(buffer.redate(since(BEGAN), time(LIMIT)).unwrap(), 0);
    assert_eq!(times(&mut buffer), expected);
}

#[test]
fn what_was_sent_and_stays_is_not_moved_by_what_was_too_old_also_when_somebody_dies_meanwhile() {
    // Those that were too old lie right before the first that stays; those that were not sent have their own times.
    let mut expected: Vec<_> = (1..=10)
        .map(|number| time(BEHIND + 11_000 - 11 + number))
        .collect();
    expected.extend((11..=15).map(|number| time(BEHIND + 1_000 * number)));
    expected.extend((16..=20).map(|number| time(BEGAN + 1_000 * number)));
    for dies_at in 0..=expected.len() {
        let folder = Folder::new("dating");
        let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
        push_wrong(&mut buffer, TOO_OLD, 1..=10);
        push_wrong(&mut buffer, BEHIND, 11..=15);
        buffer.sending(buffer.last().unwrap()).unwrap();
        push_wrong(&mut buffer, BEHIND, 16..=20);
        let died = redate_and_die(buffer, dies_at);
        assert_eq!(died, dies_at < expected.len());
        let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
        buffer.redate(since(BEGAN), time(LIMIT)).unwrap();
        assert_eq!(times(&mut buffer), expected, "died at {dies_at}");
        assert_eq!(buffer.redate(since(BEGAN), time(LIMIT)).unwrap(), 0);
    }
}

#[test]
fn nor_is_it_moved_where_there_is_no_disk() {
    let folder = Folder::new("dating");
    let below = folder.path().join("samples");
    let mut buffer = Buffer::open(&below, SMALL).unwrap();
    std::fs::remove_dir_all(&below).unwrap();
    push_wrong(&mut buffer, TOO_OLD, 1..=2);
    push_wrong(&mut buffer, BEHIND, 3..=3);
    // The disk does not take it; it holds for this life.
    assert!(buffer.sending(buffer.last().unwrap()).is_err());
    push_wrong(&mut buffer, BEHIND, 4..=4);
    assert_eq!(buffer.redate(since(BEGAN), time(LIMIT)).unwrap(), 3);
    let expected = [
        BEHIND + 2_998,
        BEHIND + 2_999,
        BEHIND + 3_000,
        BEGAN + 4_000,
    ];
    assert_eq!(times(&mut buffer), expected.map(time));
}

/// A machine's clock that is wrong by this.
struct Wrong(chrono::Duration);

impl TimeSource for Wrong {
    fn wall(&self) -> Timestamp {
        Timestamp::now().plus(self.0)
    }
    fn boot(&self) -> Duration {
        platform::boot_time()
    }
}

fn sampler(folder: &Folder, clock: &Arc<Clock>) -> Sampler {
    Sampler::begin(
        folder.path().join("samples"),
        Duration::from_millis(100),
        Optional::default(),
        Arc::clone(clock),
        "boot-a".to_owned(),
    )
    .unwrap()
}

/// The samples that a sampler has written. Nobody has asked it for them.
fn on_disk(folder: &Folder) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (_, text) in files(&folder.path().join("samples")) {
        for line in text.split(|byte| *byte == b'\n') {
            // The last one may be half written.
            let read = serde_json::from_slice::<serde_json::Value>(line);
            let sample = read
                .ok()
                .and_then(|mut line| line.get_mut("sample").map(serde_json::Value::take));
            samples.extend(sample.map(|sample| serde_json::from_value::<Sample>(sample).unwrap()));
        }
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_out_before_the_servers_word_keeps_the_time_that_it_may_be_stored_with() {
    // An hour behind a server has stored it, if it came; an hour ahead, or many years behind, it has refused it.
    for (hours, may_be_stored) in [(-1, true), (1, false), (-480_000, false)] {
        let folder = Folder::new("dating");
        let clock = Arc::new(Clock::new(Wrong(chrono::Duration::hours(hours))));
        let begun = Timestamp::now();
        let sampler = sampler(&folder, &clock);
        let sent = eventually("some samples", PATIENCE, || async {
            let batch = sampler.batch().await;
            (batch.len() >= 3).then_some(batch)
        })
        .await;
        eventually("more samples", PATIENCE, || async {
            (on_disk(&folder).len() > sent.len()).then_some(())
        })
        .await;
        clock.server_says(Timestamp::now());
        let after = sampler.batch().await;
        let now = Timestamp::now().plus(chrono::Duration::seconds(1));
        let (again, others) = after.split_at(sent.len());
        assert!(!others.is_empty(), "{hours}");
        assert_eq!(again == sent, may_be_stored, "{hours}");
        let right = if may_be_stored { others } else { &after[..] };
        for sample in right {
            assert!(
                begun <= sample.at && sample.at <= now,
                "{hours}: {sample:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_server_has_said_its_time_samples_have_the_times_at_which_they_were_taken() {
    for wrong in [
        chrono::Duration::days(-20_000),
        chrono::Duration::hours(1),
        chrono::Duration::hours(-1),
    ] {
        let folder = Folder::new("dating");
        let clock = Arc::new(Clock::new(Wrong(wrong)));
        let begun = Timestamp::now();
        let sampler = sampler(&folder, &clock);
        let before = eventually("some samples", PATIENCE, || async {
            let kept = on_disk(&folder);
            (kept.len() >= 5).then_some(kept)
        })
        .await;
        let first = before[0].at.plus(-wrong);
        assert!(
            begun <= first && first <= Timestamp::now(),
            "{wrong}: {first}"
        );
        clock.server_says(Timestamp::now());
        let after = sampler.batch().await;
        let now = Timestamp::now();
        assert!(after.is_sorted_by(|one, next| one.at < next.at), "{wrong}");
        assert!(after.len() >= before.len(), "{wrong}: none is lost");
        for (before, after) in before.iter().zip(&after) {
            let off = after.at.since(before.at.plus(-wrong)).num_milliseconds();
            assert!(off.abs() < 1_000, "{wrong}: off by {off} ms");
            // Nothing but the time is another one.
            let same = Sample {
                at: after.at,
                ..before.clone()
            };
            assert_eq!(&same, after, "{wrong}");
        }
        let last = after.last().unwrap().at;
        assert!(
            last <= now.plus(chrono::Duration::seconds(1)),
            "{wrong}: {last}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_collected_before_the_first_contact_reaches_the_server_with_right_times() {
    let world = World::new().await;
    let agent = world.enrol();
    let (boot, uptime) = (platform::boot_id().await, platform::boot_time());
    let here = Timestamp::now();
    // What a life of this boot has left: a clock that began in 1970, and one that is an hour ahead.
    let mut buffer = Buffer::open(&agent.state().join("samples"), Bounds::default()).unwrap();
    for number in 0..20_i64 {
        let ago = Duration::from_millis(2_000 - 100 * number.unsigned_abs());
        let uptime_ms = u64::try_from((uptime - ago).as_millis()).unwrap();
        let at = if number < 10 {
            Timestamp::from_millis(100 * number).unwrap()
        } else {
            here.plus(chrono::Duration::hours(1) + chrono::Duration::milliseconds(100 * number))
        };
        buffer.push_taken(Sample { at, ..sample(0) }, taken(&boot, uptime_ms));
    }
    drop(buffer);
    let _running = agent.start();
    world
        .until("samples of before and after", |owners| {
            owners.samples.len() > 25
        })
        .await;
    let owners = world.owners();
    let now = Timestamp::now();
    let of_before: Vec<_> = owners
        .samples
        .iter()
        .filter(|one| one.memory.total == sample(0).memory.total)
        .map(|one| one.at.since(here).num_milliseconds())
        .collect();
    assert_eq!(
        of_before.len(),
        20,
        "each came, and none twice: {of_before:?}"
    );
    for (number, off) in (0..).zip(&of_before) {
        let expected = 100 * number - 2_000;
        assert!(
            off.abs_diff(expected) < 5_000,
            "{off} instead of {expected}"
        );
    }
    let times: Vec<_> = owners.samples.iter().map(|one| one.at).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    assert!(times.last().unwrap() <= &now.plus(AHEAD_MAX));
}

//! The buffer of samples: bounded, kept over a restart, trimmed only by the server's word.

use std::path::Path;

use contract::agent::{CpuSample, DiskSample, MemorySample, SAMPLES_MAX, Sample, SwapSample};
use dashfleet_agent::buffer::{Bounds, Buffer};
use domain::Timestamp;
use proptest::prelude::*;
use testkit::Folder;

use super::task::time;

pub fn sample(at: i64) -> Sample {
    Sample {
        at: time(at),
        cpu: CpuSample {
            percent: 1.5,
            cores: vec![1.0, 2.0],
        },
        load: None,
        memory: MemorySample {
            total: 8,
            used: 2,
            available: 6,
            percent: 25.0,
        },
        swap: SwapSample { total: 0, used: 0 },
        disks: vec![DiskSample {
            mount: "/".into(),
            file_system: "ext4".into(),
            total: 8,
            used: 4,
            percent: 50.0,
            ..DiskSample::default()
        }],
        networks: Vec::new(),
        uptime_seconds: 5,
        processes: 7,
        temperatures: Vec::new(),
        batteries: Vec::new(),
        top_processes: None,
        faults: Vec::new(),
    }
}

const SMALL: Bounds = Bounds {
    total: 16_384,
    segment: 2_048,
    batch: 64 * 1024,
    memory: 4,
};

fn times(samples: &[Sample]) -> Vec<Timestamp> {
    samples.iter().map(|sample| sample.at).collect()
}

fn files(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn samples_leave_in_order_and_only_by_the_servers_word() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), Bounds::default()).unwrap();
    for at in 1..=200 {
        buffer.push(sample(at));
    }
    let first = buffer.batch().unwrap();
    assert_eq!(first.len(), SAMPLES_MAX);
    assert_eq!(buffer.batch().unwrap(), first, "asking takes nothing away");
    buffer.acknowledge(time(10)).unwrap();
    assert_eq!(times(&buffer.batch().unwrap())[0], time(11));
    buffer.acknowledge(time(200)).unwrap();
    assert!(buffer.batch().unwrap().is_empty());
    assert_eq!(buffer.dropped(), 0);
}

#[test]
fn a_restart_costs_nothing() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for at in 1..=30 {
        buffer.push(sample(at));
    }
    buffer.acknowledge(time(7)).unwrap();
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(
        times(&buffer.batch().unwrap()),
        (8..=30).map(time).collect::<Vec<_>>()
    );
    assert_eq!(buffer.last(), Some(time(30)), "the next one must be later");
    buffer.acknowledge(time(30)).unwrap();
    drop(buffer);
    let buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(
        buffer.last(),
        Some(time(30)),
        "also when all are acknowledged"
    );
}

#[test]
fn a_line_that_a_crash_tore_costs_itself() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), Bounds::default()).unwrap();
    for at in 1..=3 {
        buffer.push(sample(at));
    }
    drop(buffer);
    let file = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
    let mut buffer = Buffer::open(folder.path(), Bounds::default()).unwrap();
    buffer.push(sample(9));
    assert_eq!(times(&buffer.batch().unwrap()), [time(1), time(2), time(9)]);
}

#[test]
fn when_it_is_full_the_oldest_go_first_and_are_counted() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for at in 1..=500 {
        buffer.push(sample(at));
        assert!(files(folder.path()) <= SMALL.total);
    }
    let kept = times(&buffer.batch().unwrap());
    assert_eq!(kept.last(), Some(&time(500)));
    assert_eq!(
        buffer.dropped() + kept.len() as u64,
        500,
        "what is not there was counted"
    );
}

#[test]
fn in_normal_times_the_files_stay_small() {
    let folder = Folder::new("buffer");
    let bounds = Bounds {
        segment: 16_384,
        ..Bounds::default()
    };
    let mut buffer = Buffer::open(folder.path(), bounds).unwrap();
    for at in 1..=2_000 {
        buffer.push(sample(at));
        assert_eq!(times(&buffer.batch().unwrap()), [time(at)]);
        buffer.acknowledge(time(at)).unwrap();
        assert!(files(folder.path()) <= 16_384 / 4 + 1_024, "at {at}");
    }
}

#[test]
fn a_batch_is_one_message_of_an_agent() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), Bounds::default()).unwrap();
    for at in 1..=64 {
        let disks = vec![sample(0).disks[0].clone(); 64];
        buffer.push(Sample {
            disks,
            ..sample(at)
        });
    }
    let batch = buffer.batch().unwrap();
    assert!(!batch.is_empty() && batch.len() < 64);
    assert!(serde_json::to_vec(&batch).unwrap().len() < contract::agent::MESSAGE_MAX_BYTES * 3 / 4);
}

#[test]
fn without_a_disk_the_last_few_stay_in_memory() {
    let folder = Folder::new("buffer");
    let below = folder.path().join("samples");
    let mut buffer = Buffer::open(&below, SMALL).unwrap();
    std::fs::remove_dir_all(&below).unwrap();
    for at in 1..=6 {
        buffer.push(sample(at));
    }
    assert_eq!(
        times(&buffer.batch().unwrap()),
        (3..=6).map(time).collect::<Vec<_>>()
    );
    assert_eq!(buffer.dropped(), 2);
    // The files are gone: trimming says so, and memory is trimmed all the same.
    drop(buffer.acknowledge(time(5)));
    assert_eq!(times(&buffer.batch().unwrap()), [time(6)]);
}

/// Takes all that there is, batch by batch; the times.
fn drain(buffer: &mut Buffer, bounds: Bounds) -> Vec<Timestamp> {
    let mut seen = Vec::new();
    loop {
        let batch = buffer.batch().unwrap();
        let Some(last) = batch.last() else {
            return seen;
        };
        let bytes = serde_json::to_vec(&batch).unwrap().len();
        assert!(bytes <= bounds.batch + 2, "{bytes} bytes");
        assert!(batch.len() <= SAMPLES_MAX);
        seen.extend(times(&batch));
        buffer.acknowledge(last.at).unwrap();
    }
}

#[test]
fn what_the_disk_did_not_take_for_a_while_is_sent_in_its_place() {
    let few_bytes = Bounds {
        batch: 3_000,
        ..Bounds::default()
    };
    let small_files = Bounds {
        segment: 2_048,
        ..Bounds::default()
    };
    for bounds in [Bounds::default(), few_bytes, small_files] {
        let folder = Folder::new("buffer");
        let (here, away) = (folder.path().join("samples"), folder.path().join("away"));
        let mut buffer = Buffer::open(&here, bounds).unwrap();
        // A batch becomes full on the disk, after the time of what is in memory.
        for at in 1..=200 {
            match at {
                50 | 120 => std::fs::rename(&here, &away).unwrap(),
                60 | 150 => std::fs::rename(&away, &here).unwrap(),
                _ => {}
            }
            buffer.push(sample(at));
        }
        let all: Vec<_> = (1..=200).map(time).collect();
        assert_eq!(drain(&mut buffer, bounds), all, "{bounds:?}");
        assert_eq!(buffer.dropped(), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Acknowledge(u8),
    Restart,
    /// The disk goes, or comes back.
    Disk,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_repeated_within_the_bound(steps in proptest::collection::vec(
        prop_oneof![
            4 => (1..20u8).prop_map(Step::Push),
            3 => (0..40u8).prop_map(Step::Acknowledge),
            1 => Just(Step::Restart),
        ], 1..40)) {
        let folder = Folder::new("buffer");
        let bounds = Bounds { total: 64 * 1024 * 1024, ..SMALL };
        let mut buffer = Buffer::open(folder.path(), bounds).unwrap();
        let (mut last, mut through) = (0, 0);
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    last += 1;
                    buffer.push(sample(last));
                },
                Step::Acknowledge(count) => {
                    let batch = buffer.batch().unwrap();
                    if let Some(last) = batch.get(usize::from(count)).or(batch.last()) {
                        buffer.acknowledge(last.at).unwrap();
                        through = last.at.millis() - time(0).millis();
                    }
                }
                Step::Restart => buffer = Buffer::open(folder.path(), bounds).unwrap(),
                Step::Disk => {}
            }
            let expected: Vec<_> = (through + 1..=last).take(SAMPLES_MAX).map(time).collect();
            prop_assert_eq!(times(&buffer.batch().unwrap()), expected);
            prop_assert_eq!(buffer.dropped(), 0);
        }
    }

    #[test]
    fn nothing_is_lost_or_repeated_while_the_disk_comes_and_goes(steps in proptest::collection::vec(
        prop_oneof![
            4 => (1..40u8).prop_map(Step::Push),
            2 => (0..80u8).prop_map(Step::Acknowledge),
            2 => Just(Step::Disk),
        ], 1..40)) {
        let folder = Folder::new("buffer");
        let (here, away) = (folder.path().join("samples"), folder.path().join("away"));
        let bounds = Bounds { total: 64 * 1024 * 1024, memory: 10_000, ..SMALL };
        let mut buffer = Buffer::open(&here, bounds).unwrap();
        let (mut last, mut through, mut gone) = (0, 0, false);
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    last += 1;
                    buffer.push(sample(last));
                },
                Step::Acknowledge(count) if !gone => {
                    let batch = buffer.batch().unwrap();
                    if let Some(last) = batch.get(usize::from(count)).or(batch.last()) {
                        buffer.acknowledge(last.at).unwrap();
                        through = last.at.millis() - time(0).millis();
                    }
                }
                Step::Disk => {
                    let (from, to) = if gone { (&away, &here) } else { (&here, &away) };
                    std::fs::rename(from, to).unwrap();
                    gone = !gone;
                }
                // Without its files a buffer is neither trimmed nor read.
                Step::Acknowledge(_) | Step::Restart => {}
            }
            if !gone {
                let expected: Vec<_> = (through + 1..=last).take(SAMPLES_MAX).map(time).collect();
                prop_assert_eq!(times(&buffer.batch().unwrap()), expected);
            }
            prop_assert_eq!(buffer.dropped(), 0);
        }
    }
}

#[test]
fn samples_of_a_clock_that_was_ahead_are_forgotten_and_the_others_stay() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    for at in 1..=9 {
        buffer.push(sample(at));
    }
    buffer.acknowledge(time(4)).unwrap();
    for at in 1_001..=1_020 {
        buffer.push(sample(at));
    }
    assert_eq!(buffer.last(), Some(time(1_020)));
    buffer.redate(|_| None, time(100)).unwrap();
    let stay: Vec<_> = (5..=9).map(time).collect();
    assert_eq!(buffer.last(), Some(time(9)));
    assert_eq!(times(&buffer.batch().unwrap()), stay);
    // The answer about what was forgotten comes late, and takes nothing away.
    buffer.push(sample(10));
    buffer.acknowledge(time(1_020)).unwrap();
    assert_eq!(buffer.batch().unwrap().len(), 6);
    // Nor does the next life remember the wrong time.
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(buffer.last(), Some(time(10)));
    assert_eq!(buffer.batch().unwrap().len(), 6);
    buffer.acknowledge(time(10)).unwrap();
    assert!(buffer.batch().unwrap().is_empty());
}

#[test]
fn an_acknowledged_time_of_a_clock_that_was_ahead_does_not_outlive_it() {
    let folder = Folder::new("buffer");
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    buffer.push(sample(1_000_000));
    // The server refuses it, and says that it has dealt with it.
    buffer.acknowledge(time(1_000_000)).unwrap();
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(buffer.last(), Some(time(1_000_000)));
    buffer.redate(|_| None, time(100)).unwrap();
    assert_eq!(buffer.last(), None);
    buffer.push(sample(50));
    drop(buffer);
    let mut buffer = Buffer::open(folder.path(), SMALL).unwrap();
    assert_eq!(times(&buffer.batch().unwrap()), [time(50)]);
}

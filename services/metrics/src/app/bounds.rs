//! What is a sample: bounds that are checked before anything is written. What lies outside is refused for good,
//! so that an agent does not send it for ever.

use chrono::Duration;
use contract::Problem;
use contract::agent::{NetworkSample, SAMPLES_MAX, Sample, SampleBatch};
use domain::Timestamp;

/// How long raw samples are kept; older ones are refused.
pub const RETENTION: Duration = Duration::days(7);
/// How far an agent's clock may be ahead.
pub const AHEAD_MAX: Duration = Duration::minutes(10);
/// The most cores of a sample.
const CORES_MAX: usize = 4_096;
/// The most disks, and the most network interfaces, of a sample.
pub(crate) const DEVICES_MAX: usize = 512;
/// The greatest load, and bytes per second.
const RATE_MAX: f64 = 1e18;
/// Figures are kept to a millionth: what is finer is noise, and would be stored digit by digit.
const PRECISION: f64 = 1e6;
/// The longest name of a mount point, file system or interface, in bytes.
const NAME_MAX: usize = 1_024;
/// The most temperatures, and the most batteries.
const SENSORS_MAX: usize = 128;
/// The lowest and the highest temperature that a machine can tell of, in degrees Celsius.
const CELSIUS: std::ops::RangeInclusive<f64> = -273.15..=1_000.0;
/// The most processes of each order.
const PROCESSES_MAX: usize = 10;
/// The most faults.
const FAULTS_MAX: usize = 16;

/// A message, sorted into what is written and what is not.
#[derive(Debug, PartialEq)]
pub struct Checked {
    /// What is written: strictly increasing.
    pub accepted: Vec<Sample>,
    /// How many were refused for good.
    pub refused: u32,
    /// The latest time of the message: everything up to it is dealt with.
    pub through: Timestamp,
}

/// Sorts a message into what is written and what is not.
///
/// # Errors
/// INVALID when the message is empty or too long.
pub fn check(batch: SampleBatch, now: Timestamp) -> Result<Checked, Problem> {
    let count = batch.samples.len();
    let Some(through) = batch
        .samples
        .iter()
        .map(|sample| sample.at)
        .max()
        .filter(|_| count <= SAMPLES_MAX)
    else {
        return Err(Problem::invalid(
            "samples",
            format!("there are {count}; from 1 to {SAMPLES_MAX} are taken"),
        ));
    };
    let mut accepted: Vec<Sample> = Vec::with_capacity(count);
    let mut refused = 0;
    for sample in batch.samples {
        let increasing = accepted.last().is_none_or(|last| last.at < sample.at);
        match complaint(&sample, now) {
            None if increasing => accepted.push(rounded(sample)),
            complaint => {
                refused += 1;
                tracing::debug!(at = %sample.at, reason = complaint.unwrap_or("its time does not increase"), "a sample is refused");
            }
        }
    }
    Ok(Checked {
        accepted,
        refused,
        through,
    })
}

/// What is wrong with a sample.
fn complaint(sample: &Sample, now: Timestamp) -> Option<&'static str> {
    let wrong = [
        (
            sample.at < now.plus(-RETENTION),
            "it is older than the retention",
        ),
        (sample.at > now.plus(AHEAD_MAX), "its time is in the future"),
        (
            !percent(sample.cpu.percent) || !sample.cpu.cores.iter().all(|core| percent(*core)),
            "a processor's percent",
        ),
        (sample.cpu.cores.len() > CORES_MAX, "too many cores"),
        (
            sample
                .load
                .as_ref()
                .is_some_and(|load| ![load.one, load.five, load.fifteen].into_iter().all(rate)),
            "a load",
        ),
        (!percent(sample.memory.percent), "the memory's percent"),
        (
            sample.memory.used > sample.memory.total
                || sample.memory.available > sample.memory.total,
            "more memory than there is",
        ),
        (
            sample.swap.used > sample.swap.total,
            "more swap than there is",
        ),
        (
            sample.disks.len() > DEVICES_MAX || sample.networks.len() > DEVICES_MAX,
            "too many disks or interfaces",
        ),
        (
            !sample
                .disks
                .iter()
                .all(|disk| percent(disk.percent) && disk.used <= disk.total),
            "a disk's use",
        ),
        (
            !sample
                .disks
                .iter()
                .all(|disk| name(&disk.mount) && name(&disk.file_system)),
            "a disk's name",
        ),
        (
            !sample
                .networks
                .iter()
                .all(|network| rate(network.received) && rate(network.sent)),
            "a network's rate",
        ),
        (
            !sample.networks.iter().all(|network| name(&network.name)),
            "an interface's name",
        ),
        (
            !sample
                .disks
                .iter()
                .all(|disk| disk.available.is_none_or(|free| free <= disk.total)),
            "a disk's space",
        ),
        (
            !(sample.disks.iter())
                .flat_map(|disk| [disk.read, disk.written])
                .chain(sample.networks.iter().flat_map(packets))
                .flatten()
                .all(rate),
            "a disk's or a network's rate",
        ),
        (
            sample.temperatures.len() > SENSORS_MAX || sample.batteries.len() > SENSORS_MAX,
            "too many temperatures or batteries",
        ),
        (
            !sample.temperatures.iter().all(|sensor| {
                name(&sensor.name)
                    && CELSIUS.contains(&sensor.celsius)
                    && sensor.critical.is_none_or(|it| CELSIUS.contains(&it))
            }),
            "a temperature",
        ),
        (
            !(sample.batteries.iter())
                .all(|battery| name(&battery.name) && percent(battery.percent)),
            "a battery",
        ),
        (
            sample.top_processes.as_ref().is_some_and(|top| {
                [&top.by_cpu, &top.by_memory].into_iter().any(|processes| {
                    processes.len() > PROCESSES_MAX
                        || !processes
                            .iter()
                            .all(|process| name(&process.name) && percent(process.cpu_percent))
                })
            }),
            "a process",
        ),
        (
            sample.faults.len() > FAULTS_MAX
                || !(sample.faults.iter())
                    .all(|fault| name(&fault.collector) && name(&fault.message)),
            "a fault",
        ),
    ];
    wrong
        .into_iter()
        .find_map(|(is_wrong, reason)| is_wrong.then_some(reason))
}

/// The rates of an interface that older agents do not tell.
fn packets(network: &NetworkSample) -> [Option<f64>; 6] {
    [
        network.packets_received,
        network.packets_sent,
        network.receive_errors,
        network.send_errors,
        network.receive_drops,
        network.send_drops,
    ]
}

fn percent(value: f64) -> bool {
    (0.0..=100.0).contains(&value)
}

fn rate(value: f64) -> bool {
    (0.0..=RATE_MAX).contains(&value)
}

fn rounded(mut sample: Sample) -> Sample {
    let disks = sample
        .disks
        .iter_mut()
        .flat_map(|disk| [disk.read.as_mut(), disk.written.as_mut()])
        .flatten();
    disks.for_each(round);
    for network in &mut sample.networks {
        [
            network.packets_received.as_mut(),
            network.packets_sent.as_mut(),
            network.receive_errors.as_mut(),
            network.send_errors.as_mut(),
            network.receive_drops.as_mut(),
            network.send_drops.as_mut(),
        ]
        .into_iter()
        .flatten()
        .for_each(round);
    }
    for sensor in &mut sample.temperatures {
        round(&mut sensor.celsius);
        sensor.critical.iter_mut().for_each(round);
    }
    for battery in &mut sample.batteries {
        round(&mut battery.percent);
    }
    if let Some(top) = &mut sample.top_processes {
        let processes = top.by_cpu.iter_mut().chain(&mut top.by_memory);
        processes.for_each(|process| round(&mut process.cpu_percent));
    }
    let load = sample
        .load
        .iter_mut()
        .flat_map(|load| [&mut load.one, &mut load.five, &mut load.fifteen]);
    let figures = std::iter::once(&mut sample.cpu.percent)
        .chain(&mut sample.cpu.cores)
        .chain(load)
        .chain(std::iter::once(&mut sample.memory.percent))
        .chain(sample.disks.iter_mut().map(|disk| &mut disk.percent))
        .chain(
            sample
                .networks
                .iter_mut()
                .flat_map(|network| [&mut network.received, &mut network.sent]),
        );
    figures.for_each(round);
    sample
}

fn round(figure: &mut f64) {
    // Beyond this a double has no millionths to round.
    if *figure < 1e9 {
        *figure = (*figure * PRECISION).round() / PRECISION;
    }
}

/// No control characters: PostgreSQL takes no NUL in JSON, and people no escape sequence in a name.
fn name(text: &str) -> bool {
    text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::agent::{
        BatterySample, BatteryState, CollectorFault, CpuSample, DiskSample, LoadSample,
        MemorySample, ProcessSample, SwapSample, TemperatureSample, TopProcesses,
    };

    fn sample(at: Timestamp) -> Sample {
        Sample {
            at,
            cpu: CpuSample {
                percent: 100.0,
                cores: vec![0.0, 100.0],
            },
            load: Some(LoadSample {
                one: 0.0,
                five: 1.5,
                fifteen: 900.0,
            }),
            memory: MemorySample {
                total: 10,
                used: 4,
                available: 6,
                percent: 40.0,
            },
            swap: SwapSample { total: 0, used: 0 },
            disks: vec![DiskSample {
                mount: "/".into(),
                file_system: "ext4".into(),
                total: u64::MAX,
                used: u64::MAX,
                percent: 100.0,
                available: Some(0),
                read: Some(0.0),
                written: None,
            }],
            networks: vec![NetworkSample {
                name: "eth0".into(),
                received: 0.0,
                sent: 1e12,
                send_drops: Some(0.5),
                ..NetworkSample::default()
            }],
            uptime_seconds: 1,
            processes: 1,
            temperatures: vec![TemperatureSample {
                name: "coretemp Core 0".into(),
                celsius: -12.5,
                critical: Some(100.0),
            }],
            batteries: vec![BatterySample {
                name: "BAT0".into(),
                percent: 100.0,
                state: BatteryState::Full,
            }],
            top_processes: Some(TopProcesses {
                by_cpu: vec![process()],
                by_memory: Vec::new(),
            }),
            faults: vec![CollectorFault {
                collector: "disks".into(),
                message: "hangs".into(),
            }],
        }
    }

    fn process() -> ProcessSample {
        ProcessSample {
            pid: 1,
            name: "init".into(),
            cpu_percent: 0.1,
            memory: 4_096,
        }
    }

    type Spoil = fn(&mut Sample);

    #[test]
    fn each_bound_refuses_what_lies_outside() {
        let now = Timestamp::now();
        let spoils: &[(&str, Spoil)] = &[
            ("cpu", |s| s.cpu.percent = 100.1),
            ("cpu nan", |s| s.cpu.percent = f64::NAN),
            ("core", |s| s.cpu.cores.push(-0.1)),
            ("cores", |s| s.cpu.cores = vec![1.0; CORES_MAX + 1]),
            ("load", |s| {
                s.load = Some(LoadSample {
                    one: f64::INFINITY,
                    five: 0.0,
                    fifteen: 0.0,
                });
            }),
            ("memory", |s| s.memory.used = 11),
            ("available", |s| s.memory.available = 11),
            ("memory percent", |s| s.memory.percent = -1.0),
            ("swap", |s| s.swap.used = 1),
            ("disk", |s| {
                s.disks.iter_mut().for_each(|disk| disk.total = 0);
            }),
            ("disk percent", |s| {
                s.disks.iter_mut().for_each(|disk| disk.percent = 101.0);
            }),
            ("mount", |s| {
                s.disks.iter_mut().for_each(|disk| disk.mount.push('\0'));
            }),
            ("rate", |s| {
                s.networks
                    .iter_mut()
                    .for_each(|network| network.sent = -1.0);
            }),
            ("interface", |s| {
                s.networks
                    .iter_mut()
                    .for_each(|network| network.name = "x".repeat(NAME_MAX + 1));
            }),
            ("space", |s| {
                s.disks[0] = DiskSample {
                    total: 5,
                    used: 1,
                    available: Some(6),
                    ..s.disks[0].clone()
                };
            }),
            ("read", |s| s.disks[0].read = Some(f64::NAN)),
            ("drops", |s| s.networks[0].send_drops = Some(-0.1)),
            ("temperature", |s| s.temperatures[0].celsius = -300.0),
            ("critical", |s| s.temperatures[0].critical = Some(f64::NAN)),
            ("temperatures", |s| {
                s.temperatures = vec![s.temperatures[0].clone(); SENSORS_MAX + 1];
            }),
            ("battery", |s| s.batteries[0].percent = 100.5),
            ("processes", |s| {
                s.top_processes = Some(TopProcesses {
                    by_cpu: Vec::new(),
                    by_memory: vec![process(); PROCESSES_MAX + 1],
                });
            }),
            ("process", |s| {
                s.top_processes.iter_mut().for_each(|top| {
                    top.by_cpu[0].name.push('\u{1b}');
                });
            }),
            ("faults", |s| {
                s.faults = vec![s.faults[0].clone(); FAULTS_MAX + 1];
            }),
            ("fault", |s| s.faults[0].message = "x".repeat(NAME_MAX + 1)),
            ("old", |s| {
                s.at = Timestamp::now().plus(-RETENTION - Duration::seconds(1));
            }),
            ("future", |s| {
                s.at = Timestamp::now().plus(AHEAD_MAX + Duration::seconds(30));
            }),
        ];
        assert_eq!(complaint(&sample(now), now), None);
        for (what, spoil) in spoils {
            let mut spoiled = sample(now);
            spoil(&mut spoiled);
            assert!(complaint(&spoiled, now).is_some(), "{what}");
        }
    }

    #[test]
    fn what_does_not_increase_is_refused_and_the_rest_is_taken() -> Result<(), Problem> {
        let now = Timestamp::now();
        let at = |seconds| now.plus(Duration::seconds(seconds));
        let samples = [-30, -20, -20, -25, -10]
            .map(|seconds| sample(at(seconds)))
            .to_vec();
        let checked = check(SampleBatch { samples }, now)?;
        assert_eq!(
            checked
                .accepted
                .iter()
                .map(|sample| sample.at)
                .collect::<Vec<_>>(),
            [at(-30), at(-20), at(-10)]
        );
        assert_eq!((checked.refused, checked.through), (2, at(-10)));
        Ok(())
    }

    #[test]
    fn figures_are_kept_to_a_millionth() -> Result<(), Problem> {
        let now = Timestamp::now();
        let mut fine = sample(now);
        fine.cpu = CpuSample {
            percent: 0.1 + 0.2,
            cores: vec![1e-300, 33.333_333_333],
        };
        fine.networks
            .iter_mut()
            .for_each(|network| network.sent = 1e17 + 16.0);
        let checked = check(
            SampleBatch {
                samples: vec![fine],
            },
            now,
        )?;
        let kept = checked.accepted.first().map(|sample| {
            (
                sample.cpu.clone(),
                sample.networks.first().map(|network| network.sent),
            )
        });
        assert_eq!(
            kept,
            Some((
                CpuSample {
                    percent: 0.3,
                    cores: vec![0.0, 33.333_333]
                },
                Some(1e17 + 16.0)
            ))
        );
        Ok(())
    }

    #[test]
    fn a_message_has_1_to_64_samples() {
        let now = Timestamp::now();
        for count in [0, SAMPLES_MAX + 1] {
            assert!(
                check(
                    SampleBatch {
                        samples: vec![sample(now); count]
                    },
                    now
                )
                .is_err(),
                "{count}"
            );
        }
    }
}

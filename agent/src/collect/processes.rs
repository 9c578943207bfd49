//! The processes that use the most, for owners who switch it on. Names only: a command line may hold a password.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use contract::agent::{ProcessSample, TopProcesses};

use crate::collect::percent;
use crate::collect::watch::Watch;
use crate::platform::{self, Process};

/// How many are shown by each order.
const SHOWN: usize = 10;
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest name, in characters.
const NAME_MAX_CHARS: usize = 64;

/// What each process has used, by its number and when it began.
type Used = HashMap<(u32, u64), Duration>;

/// Begins to look at them.
#[must_use]
pub fn begin() -> Watch<TopProcesses> {
    Watch::begin("processes", LIMIT, || {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut before: Option<(Instant, Used)> = None;
        move || {
            let now = platform::processes()?;
            let at = Instant::now();
            let top = match &before {
                Some((then, used)) => top(used, &now, at.duration_since(*then), cores),
                None => top(&HashMap::new(), &now, Duration::ZERO, cores),
            };
            let used = now.iter().map(|process| (key(process), process.cpu));
            before = Some((at, used.collect()));
            Ok(top)
        }
    })
}

/// A number is used again by another process, which began at another time.
fn key(process: &Process) -> (u32, u64) {
    (process.pid, process.started)
}

/// Who used the most in the time `passed` since each had used so much.
#[must_use]
pub fn top<S: std::hash::BuildHasher>(
    used: &HashMap<(u32, u64), Duration, S>,
    now: &[Process],
    passed: Duration,
    cores: usize,
) -> TopProcesses {
    #[allow(clippy::cast_precision_loss)] // a percentage with one decimal
    let whole = passed.as_secs_f64() * cores.max(1) as f64;
    let mut samples: Vec<(f64, &Process)> = now
        .iter()
        .map(|process| {
            let before = used
                .get(&key(process))
                .copied()
                .unwrap_or(if used.is_empty() {
                    process.cpu
                } else {
                    Duration::ZERO
                });
            let spent = process.cpu.saturating_sub(before).as_secs_f64();
            let share = if whole > 0.0 {
                percent(spent * 100.0 / whole)
            } else {
                0.0
            };
            (share, process)
        })
        .collect();
    let shown = |samples: &[(f64, &Process)]| {
        let shown = samples
            .iter()
            .take(SHOWN)
            .map(|(share, process)| ProcessSample {
                pid: process.pid,
                name: process
                    .name
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(NAME_MAX_CHARS)
                    .collect(),
                cpu_percent: *share,
                memory: process.memory,
            });
        shown.collect::<Vec<_>>()
    };
    samples.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.pid.cmp(&b.1.pid)));
    let by_cpu = shown(&samples);
    samples.sort_by_key(|(_, process)| (std::cmp::Reverse(process.memory), process.pid));
    TopProcesses {
        by_cpu,
        by_memory: shown(&samples),
    }
}

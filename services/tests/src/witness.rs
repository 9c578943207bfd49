//! What workers' handlers wrote down: when each attempt began and ended, by `CLOCK_BOOTTIME`, which all processes of a machine share.

use std::collections::HashMap;
use std::path::Path;

/// One attempt's times, in nanoseconds; an end is missing where the worker died.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    begun: Option<u64>,
    ended: Option<u64>,
}

/// All attempts, by execution and number.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<String, HashMap<i64, Times>>);

/// Reads a witness: lines `start|end <execution> <attempt> <nanoseconds>`. None was written: nothing ran.
///
/// # Panics
/// At a line that is none, and at an attempt that began or ended twice.
#[must_use]
pub fn read(path: &Path) -> Attempts {
    let mut attempts = Attempts::default();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [word, id, attempt, at] = parts[..] else {
            panic!("no line of a witness: {line}");
        };
        let attempt: i64 = attempt.parse().expect("an attempt");
        let at: u64 = at.parse().expect("a time");
        let id = id.replace('-', "");
        let times = attempts
            .0
            .entry(id)
            .or_default()
            .entry(attempt)
            .or_default();
        let place = match word {
            "start" => &mut times.begun,
            "end" => &mut times.ended,
            other => panic!("no word of a witness: {other}"),
        };
        assert!(place.replace(at).is_none(), "twice: {line}");
    }
    attempts
}

impl Attempts {
    fn of(&self, id: &str) -> Vec<(i64, Times)> {
        let of = self.0.get(&id.replace('-', "")).into_iter().flatten();
        let mut all: Vec<_> = of.map(|(attempt, times)| (*attempt, *times)).collect();
        all.sort_unstable_by_key(|(attempt, _)| *attempt);
        all
    }

    /// # Panics
    /// When an attempt began before the one before it ended, as far as ends were written.
    pub fn never_overlap(&self) {
        for id in self.0.keys() {
            let all = self.of(id);
            for pair in all.windows(2) {
                let ((number, before), (next, after)) = (pair[0], pair[1]);
                let begun = after.begun.expect("what ended has begun");
                let over = before.ended.or(before.begun).expect("a time");
                assert!(
                    over <= begun,
                    "attempt {next} of {id} began while {number} ran"
                );
            }
        }
    }

    /// How many attempts of an execution began.
    #[must_use]
    pub fn begun(&self, id: &str) -> usize {
        self.of(id).len()
    }

    /// Which attempts of an execution ended by themselves.
    #[must_use]
    pub fn ended(&self, id: &str) -> Vec<i64> {
        let ended = self
            .of(id)
            .into_iter()
            .filter(|(_, times)| times.ended.is_some());
        ended.map(|(attempt, _)| attempt).collect()
    }

    /// The last attempt of an execution that began.
    #[must_use]
    pub fn last(&self, id: &str) -> Option<i64> {
        self.of(id).last().map(|(attempt, _)| *attempt)
    }

    /// How many attempts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }
}

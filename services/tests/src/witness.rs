//! What workers' handlers wrote down: when each attempt began and ended, by `CLOCK_BOOTTIME`, which all processes of a machine share.

use std::collections::HashMap;
use std::path::Path;

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It failed, or panicked.
    Failed,
}

/// What was seen of an attempt, in nanoseconds; the end is missing where the worker died, or its lease was over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// When its handler began.
    pub begun: Option<u64>,
    /// When and how it ended.
    pub ended: Option<(u64, End)>,
}

/// All attempts, by execution and number.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<String, HashMap<i64, Seen>>);

/// Reads a witness. None was written: nothing ran.
///
/// # Panics
/// As [`parse`].
#[must_use]
pub fn read(path: &Path) -> Attempts {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

/// Reads lines `start|end|fail <execution> <attempt> <nanoseconds>`.
///
/// # Panics
/// At a line that is none, and at an attempt that began or ended twice.
#[must_use]
pub fn parse(text: &str) -> Attempts {
    let mut attempts = Attempts::default();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [word, id, attempt, at] = parts[..] else {
            panic!("no line of a witness: {line}");
        };
        let attempt: i64 = attempt.parse().expect("an attempt");
        let at: u64 = at.parse().expect("a time");
        let seen = attempts.0.entry(plain(id)).or_default();
        let seen = seen.entry(attempt).or_default();
        let is_second = match word {
            "start" => seen.begun.replace(at).is_some(),
            "end" => seen.ended.replace((at, End::Returned)).is_some(),
            "fail" => seen.ended.replace((at, End::Failed)).is_some(),
            other => panic!("no word of a witness: {other}"),
        };
        assert!(!is_second, "twice: {line}");
    }
    attempts
}

/// An id as it is compared: with hyphens or without them it is the same.
#[must_use]
pub fn plain(id: &str) -> String {
    id.replace('-', "")
}

impl Attempts {
    /// The attempts of an execution that were seen, by number.
    #[must_use]
    pub fn of(&self, id: &str) -> Vec<(i64, Seen)> {
        let of = self.0.get(&plain(id)).into_iter().flatten();
        let mut all: Vec<_> = of.map(|(attempt, seen)| (*attempt, *seen)).collect();
        all.sort_unstable_by_key(|(attempt, _)| *attempt);
        all
    }

    /// Whatever is seen of an attempt.
    #[must_use]
    pub fn seen(&self, id: &str, attempt: i64) -> Option<Seen> {
        self.0.get(&plain(id))?.get(&attempt).copied()
    }

    /// The executions of which something was seen, without hyphens.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Attempts that began before the one before them ended, as far as ends were written, or ended without a beginning.
    #[must_use]
    pub fn overlaps(&self) -> Vec<String> {
        let mut found = Vec::new();
        for id in self.0.keys() {
            let all = self.of(id);
            let unbegun = all.iter().filter(|(_, seen)| seen.begun.is_none());
            found.extend(
                unbegun
                    .map(|(number, _)| format!("attempt {number} of {id} ended and never began")),
            );
            for pair in all.windows(2) {
                let ((number, before), (next, after)) = (pair[0], pair[1]);
                let over = before.ended.map(|(at, _)| at).or(before.begun);
                if let (Some(over), Some(begun)) = (over, after.begun)
                    && over > begun
                {
                    found.push(format!(
                        "attempt {next} of {id} began {} ns before {number} was over",
                        over - begun
                    ));
                }
            }
        }
        found
    }

    /// # Panics
    /// When there are [`Attempts::overlaps`].
    pub fn never_overlap(&self) {
        let overlaps = self.overlaps();
        assert!(overlaps.is_empty(), "{overlaps:#?}");
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
            .filter(|(_, seen)| seen.ended.is_some());
        ended.map(|(attempt, _)| attempt).collect()
    }

    /// How many attempts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }
}

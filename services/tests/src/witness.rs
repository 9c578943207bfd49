//! What workers' handlers wrote down: when each attempt began and ended, by `CLOCK_BOOTTIME`, which all processes of a machine share.
//! Whatever began has an end there, but for what was killed with its worker: that ended when the test killed it.

use std::collections::HashMap;
use std::path::Path;

use crate::product::{self, Sent};

/// A process that noted a beginning may have been killed this much before, in nanoseconds: a signal takes a moment.
const DYING: u64 = 1_000_000_000;
/// A process that was stopped past its lease drops what it had when it goes on, in this time, in nanoseconds.
const WAKING: u64 = 5_000_000_000;

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It failed, or panicked.
    Failed,
    /// It was dropped: its worker's lease was over, or it did not end when it was asked to.
    Cut,
}

/// What was seen of an attempt, in nanoseconds; the end is missing where the worker died.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The worker's process.
    pub pid: i32,
    /// When its handler began.
    pub begun: Option<u64>,
    /// When and how it ended.
    pub ended: Option<(u64, End)>,
    /// When the last step was over of one that was cut.
    pub stepped: Option<u64>,
}

/// All attempts, by execution and number, and what was done to their workers.
#[derive(Debug, Default)]
pub struct Attempts {
    seen: HashMap<String, HashMap<i64, Seen>>,
    sent: Vec<Sent>,
}

/// Reads a witness. None was written: nothing ran.
///
/// # Panics
/// As [`parse`].
#[must_use]
pub fn read(path: &Path) -> Attempts {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    parse(&text, product::sent())
}

/// Reads lines `start|end|fail <execution> <attempt> <nanoseconds> <process>`, and `cut …` with the last step's nanoseconds besides.
///
/// # Panics
/// At a line that is none, and at an attempt that began or ended twice.
#[must_use]
pub fn parse(text: &str, sent: Vec<Sent>) -> Attempts {
    let mut all: HashMap<String, HashMap<i64, Seen>> = HashMap::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let (word, id, attempt, at, pid, stepped) = match parts[..] {
            ["cut", id, attempt, at, pid, stepped] => ("cut", id, attempt, at, pid, Some(stepped)),
            [word, id, attempt, at, pid] => (word, id, attempt, at, pid, None),
            _ => panic!("no line of a witness: {line}"),
        };
        let attempt: i64 = attempt.parse().expect("an attempt");
        let time = |text: &str| text.parse::<u64>().expect("a time");
        let at = time(at);
        let seen = all.entry(plain(id)).or_default();
        let seen = seen.entry(attempt).or_default();
        seen.pid = pid.parse().expect("a process");
        let is_second = match (word, stepped) {
            ("start", None) => seen.begun.replace(at).is_some(),
            ("end", None) => seen.ended.replace((at, End::Returned)).is_some(),
            ("fail", None) => seen.ended.replace((at, End::Failed)).is_some(),
            ("cut", Some(stepped)) => {
                seen.stepped = Some(time(stepped));
                seen.ended.replace((at, End::Cut)).is_some()
            }
            _ => panic!("no line of a witness: {line}"),
        };
        assert!(!is_second, "twice: {line}");
    }
    Attempts { seen: all, sent }
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
        let of = self.seen.get(&plain(id)).into_iter().flatten();
        let mut all: Vec<_> = of.map(|(attempt, seen)| (*attempt, *seen)).collect();
        all.sort_unstable_by_key(|(attempt, _)| *attempt);
        all
    }

    /// Whatever is seen of an attempt.
    #[must_use]
    pub fn seen(&self, id: &str, attempt: i64) -> Option<Seen> {
        self.seen.get(&plain(id))?.get(&attempt).copied()
    }

    /// The executions of which something was seen, without hyphens.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(String::as_str)
    }

    /// Attempts that began before the one before them was over, or ended without a beginning, or did not end at all and were
    /// followed by others.
    #[must_use]
    pub fn overlaps(&self) -> Vec<String> {
        let mut found = Vec::new();
        for id in self.seen.keys() {
            let all = self.of(id);
            let unbegun = all.iter().filter(|(_, seen)| seen.begun.is_none());
            found.extend(
                unbegun
                    .map(|(number, _)| format!("attempt {number} of {id} ended and never began")),
            );
            for pair in all.windows(2) {
                let ((number, before), (next, after)) = (pair[0], pair[1]);
                let Some(begun) = after.begun else {
                    continue;
                };
                match self.over(&before) {
                    Some(over) if over > begun => found.push(format!(
                        "attempt {next} of {id} began {} ns before {number} was over",
                        over - begun
                    )),
                    Some(_) => {}
                    None => found.push(format!(
                        "attempt {next} of {id} began, and {number} never ended: nobody killed its worker {}",
                        before.pid
                    )),
                }
            }
        }
        found
    }

    /// When nothing of an attempt ran any more.
    fn over(&self, seen: &Seen) -> Option<u64> {
        match seen.ended {
            Some((at, End::Cut)) => Some(self.stood_still(seen, at).unwrap_or(at)),
            Some((at, End::Returned | End::Failed)) => Some(at),
            None => {
                let begun = seen.begun?;
                let kills = self.sent(seen.pid, libc::SIGKILL);
                let kill = kills.filter(|at| at + DYING >= begun).min();
                kill.map(|at| at.max(begun))
            }
        }
    }

    /// Since when the worker of an attempt had been stopped that took no step afterwards, and was cut as soon as the worker went on.
    fn stood_still(&self, seen: &Seen, cut: u64) -> Option<u64> {
        let stops = self.sent(seen.pid, libc::SIGSTOP);
        let stopped = stops.filter(|at| *at <= cut).max()?;
        let goes = self.sent(seen.pid, libc::SIGCONT);
        let went_on = goes.filter(|at| (stopped..=cut).contains(at)).max()?;
        (seen.stepped? <= stopped && cut - went_on <= WAKING).then_some(stopped)
    }

    /// When this process was sent that signal.
    fn sent(&self, pid: i32, signal: i32) -> impl Iterator<Item = u64> {
        let sent = self.sent.iter();
        sent.filter(move |sent| sent.pid == pid && sent.signal == signal)
            .map(|sent| sent.at)
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

    /// How many attempts began in this process.
    #[must_use]
    pub fn begun_in(&self, pid: i32) -> usize {
        let all = self.seen.values().flat_map(HashMap::values);
        all.filter(|seen| seen.pid == pid).count()
    }

    /// Which attempts of an execution ended by themselves.
    #[must_use]
    pub fn ended(&self, id: &str) -> Vec<i64> {
        let ended = self
            .of(id)
            .into_iter()
            .filter(|(_, seen)| matches!(seen.ended, Some((_, End::Returned | End::Failed))));
        ended.map(|(attempt, _)| attempt).collect()
    }

    /// How many attempts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.values().map(HashMap::len).sum()
    }
}

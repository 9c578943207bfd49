//! What the records say of executions, beside what the witness saw of their handlers.

use std::collections::{HashMap, HashSet};

use dashfleet_tests::witness::{Attempts, End, plain};
use domain::execution::{ATTEMPTS_KEPT, LOSSES_MAX};
use serde_json::Value;

use super::jobs::Kind;

mod tests;

/// Statuses that end an execution.
pub const ENDED: [&str; 4] = ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"];
/// How an attempt ends that used none up.
const NOT_CONCLUDED: [&str; 2] = ["LOST", "HANDED_BACK"];

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Whether an execution failed because its last worker was lost too.
pub fn is_given_up(record: &Value) -> bool {
    text(record, "status") == "FAILED"
        && text(&record["error"], "message").starts_with("the worker was lost")
}

/// An execution's record and its witness, for a person.
pub fn describe(record: &Value, seen: &Attempts) -> String {
    format!(
        "    record {record}\n    witness {:?}",
        seen.of(text(record, "id"))
    )
}

/// All attempts of a record with their outcomes: those before, and the last one, whose outcome the status tells.
fn attempts_of(record: &Value) -> Vec<(i64, &str)> {
    let number = |attempt: &Value| attempt["attempt"].as_i64().unwrap_or_default();
    let before = record["attempts"].as_array().into_iter().flatten();
    let mut all: Vec<(i64, &str)> = before
        .map(|attempt| (number(attempt), text(attempt, "outcome")))
        .collect();
    let last = if is_given_up(record) {
        "LOST"
    } else {
        text(record, "status")
    };
    all.push((number(record), last));
    all
}

/// What of a record is not what the witness saw, or not what its job does.
fn wrong(record: &Value, kind: Option<&&Kind>, seen: &Attempts) -> Option<String> {
    let (id, status) = (text(record, "id"), text(record, "status"));
    if !ENDED.contains(&status) {
        return Some(format!("is {status}"));
    }
    let Some(kind) = kind else {
        return Some("is of no job of ours".to_owned());
    };
    let all = attempts_of(record);
    let last = record["attempt"].as_i64().unwrap_or_default();
    let listed = last.min(ATTEMPTS_KEPT as i64 + 1);
    let numbers: Vec<i64> = all.iter().map(|(number, _)| *number).collect();
    if last < 1 || numbers != (last - listed + 1..=last).collect::<Vec<_>>() {
        return Some(format!("has the attempts {numbers:?} of {last}"));
    }
    if let Some((number, _)) = seen
        .of(id)
        .iter()
        .find(|(number, _)| !(1..=last).contains(number))
    {
        return Some(format!("has no attempt {number}, which was seen"));
    }
    for (number, outcome) in &all {
        let seen = seen.seen(id, *number);
        let end = seen.and_then(|seen| seen.ended).map(|(_, end)| end);
        let fits = match *outcome {
            "COMPLETED" => *number == last && end == Some(End::Returned),
            "FAILED" | "TIMEOUT" => end == Some(End::Failed),
            // Nobody stops a worker here: it gives back what has not begun, or was refused something in doubt of its lease.
            "HANDED_BACK" => seen.is_none() || end == Some(End::Failed),
            // Whatever its worker did: nobody heard of it.
            "LOST" => true,
            _ => false,
        };
        if !fits {
            return Some(format!(
                "says {outcome} of attempt {number}, seen as {seen:?}"
            ));
        }
    }
    let count = |is: &dyn Fn(&str) -> bool| all.iter().filter(|(_, outcome)| is(outcome)).count();
    let losses = count(&|outcome| outcome == "LOST");
    let concluded = count(&|outcome| !NOT_CONCLUDED.contains(&outcome));
    let as_it_should = if is_given_up(record) {
        losses == LOSSES_MAX as usize && concluded < kind.attempts
    } else {
        status == kind.ends && losses < LOSSES_MAX as usize && concluded == kind.attempts
    };
    (!as_it_should).then(|| {
        let name = kind.name;
        format!(
            "is {status} after {concluded} attempts that ended and {losses} losses, as a `{name}`"
        )
    })
}

/// Everything in which the records are not what was asked for, what was seen, or what the jobs do. `kinds` are by the
/// ids of their jobs, without hyphens.
pub fn differences(
    asked: &[String],
    records: &[Value],
    kinds: &HashMap<String, &Kind>,
    seen: &Attempts,
) -> Vec<String> {
    let mut found = seen.overlaps();
    let mut wanted: HashSet<String> = asked.iter().map(|id| plain(id)).collect();
    if wanted.len() < asked.len() {
        let times = asked.len() - wanted.len();
        found.push(format!("{times} ids were given a second time"));
    }
    found.extend(
        seen.ids()
            .filter(|id| !wanted.contains(*id))
            .map(|id| format!("{id} ran, and nobody asked for it")),
    );
    for record in records {
        let id = text(record, "id");
        if !wanted.remove(&plain(id)) {
            found.push(format!("{id} is there twice, or nobody asked for it"));
        }
        let kind = kinds.get(&plain(text(record, "jobId")));
        if let Some(wrong) = wrong(record, kind, seen) {
            found.push(format!("{id} {wrong}\n{}", describe(record, seen)));
        }
    }
    found.extend(wanted.iter().map(|id| format!("{id} has no record")));
    found
}

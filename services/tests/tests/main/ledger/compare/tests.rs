//! The comparison finds every lie, and takes what is true.

use std::collections::HashMap;

use dashfleet_tests::product::Sent;
use dashfleet_tests::witness::{Attempts, parse};
use serde_json::{Value, json};

use super::super::jobs::Kind;
use super::differences;

const LOST: &str = "the worker was lost: nobody knows how far the attempt came";
const ONCE: Kind = Kind {
    name: "once",
    ends: "COMPLETED",
    attempts: 1,
};
const LATE: Kind = Kind {
    name: "late",
    ends: "TIMEOUT",
    attempts: 2,
};

/// Of one execution, `a`: what is found when this is its record, and that was seen.
fn found(record: &Value, seen: &str) -> Vec<String> {
    let kinds = HashMap::from([("once".to_owned(), &ONCE), ("late".to_owned(), &LATE)]);
    differences(
        &["a".to_owned()],
        std::slice::from_ref(record),
        &kinds,
        &witness(seen),
    )
}

/// Lines of one worker's witness, without its process: `cut` ends with the last step. Among them what was sent to it, and when:
/// `kill 5`, `stop 5`, `cont 5`.
fn witness(text: &str) -> Attempts {
    let (mut lines, mut sent) = (String::new(), Vec::new());
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let (signal, at) = match parts[..] {
            ["kill", at] => (libc::SIGKILL, at),
            ["stop", at] => (libc::SIGSTOP, at),
            ["cont", at] => (libc::SIGCONT, at),
            ["cut", id, attempt, at, stepped] => {
                lines += &format!("cut {id} {attempt} {at} 7 {stepped}\n");
                continue;
            }
            _ => {
                lines += &format!("{line} 7\n");
                continue;
            }
        };
        sent.push(Sent {
            pid: 7,
            signal,
            at: at.parse().expect("a time"),
        });
    }
    parse(&lines, sent)
}

fn record(job: &str, status: &str, outcomes: &[&str]) -> Value {
    let attempts: Vec<Value> = (1..)
        .zip(outcomes)
        .map(|(attempt, outcome): (usize, _)| json!({ "attempt": attempt, "outcome": outcome }))
        .collect();
    json!({ "id": "a", "jobId": job, "status": status, "attempt": outcomes.len() + 1, "attempts": attempts })
}

fn given_up(outcomes: &[&str]) -> Value {
    let mut record = record("once", "FAILED", outcomes);
    record["error"] = json!({ "message": LOST });
    record
}

#[test]
fn what_is_true_is_found_to_be() {
    let once = "start a 1 10\nend a 1 20\n";
    let again = "start a 1 10\nkill 15\nstart a 2 20\nend a 2 30\n";
    let late = "start a 1 10\nfail a 1 20\nstart a 3 20\nfail a 3 30\n";
    for (record, seen) in [
        (record("once", "COMPLETED", &[]), once),
        (record("once", "COMPLETED", &["LOST"]), again),
        // It was done, and nobody heard of it.
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 1\nend a 1 2\nstart a 2 2\nend a 2 3",
        ),
        // Its lease was over.
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\ncut a 1 15 12\nstart a 2 20\nend a 2 30",
        ),
        // Its worker stood still, and did no more of it when it went on.
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\nstop 15\nstart a 2 20\ncont 25\ncut a 1 26 12\nend a 2 30",
        ),
        (record("late", "TIMEOUT", &["TIMEOUT", "HANDED_BACK"]), late),
        (given_up(&["LOST", "HANDED_BACK", "LOST"]), "start a 1 10\n"),
    ] {
        assert_eq!(found(&record, seen), Vec::<String>::new(), "{record}");
    }
}

#[test]
fn every_lie_is_found() {
    let once = "start a 1 10\nend a 1 20\n";
    let again = "start a 1 10\nkill 15\nstart a 2 20\nend a 2 30\n";
    for (record, seen, says) in [
        (record("once", "RUNNING", &[]), once, "is RUNNING"),
        (record("other", "COMPLETED", &[]), once, "no job of ours"),
        (
            record("once", "COMPLETED", &[]),
            again,
            "no attempt 2, which was seen",
        ),
        (
            record("once", "COMPLETED", &[]),
            "",
            "COMPLETED of attempt 1",
        ),
        (
            record("once", "COMPLETED", &[]),
            "start a 1 10\n",
            "COMPLETED of attempt 1",
        ),
        (
            record("once", "COMPLETED", &[]),
            "start a 1 1\nfail a 1 2",
            "COMPLETED of attempt 1",
        ),
        (record("once", "FAILED", &[]), once, "FAILED of attempt 1"),
        (
            record("once", "FAILED", &[]),
            "start a 1 1\nfail a 1 2",
            "is FAILED after 1",
        ),
        // It began and never ended: then its worker was lost.
        (
            record("once", "COMPLETED", &["HANDED_BACK"]),
            again,
            "HANDED_BACK of attempt 1",
        ),
        (
            record("once", "COMPLETED", &["TIMEOUT"]),
            again,
            "TIMEOUT of attempt 1",
        ),
        (
            record("once", "COMPLETED", &["COMPLETED"]),
            again,
            "COMPLETED of attempt 1",
        ),
        (
            record("late", "TIMEOUT", &[]),
            "start a 1 1\nfail a 1 2",
            "is TIMEOUT after 1",
        ),
        (
            given_up(&["LOST"]),
            "",
            "after 0 attempts that ended and 2 losses",
        ),
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\nend a 1 25\nstart a 2 20\nend a 2 30",
            "before 1 was over",
        ),
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\ncut a 1 25 12\nstart a 2 20\nend a 2 30",
            "before 1 was over",
        ),
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\nstart a 2 20\nkill 25\nend a 2 30",
            "before 1 was over",
        ),
        // It took a step when its worker went on.
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\nstop 15\nstart a 2 20\ncont 25\ncut a 1 27 26\nend a 2 30",
            "before 1 was over",
        ),
        (
            record("once", "COMPLETED", &["LOST"]),
            "start a 1 10\nstart a 2 20\nend a 2 30",
            "1 never ended",
        ),
        (
            record("once", "COMPLETED", &[]),
            "start a 1 10\ncut a 1 20 15",
            "COMPLETED of attempt 1",
        ),
        (
            record("once", "COMPLETED", &[]),
            "start a 1 10\nend a 1 20\nstart b 1 1",
            "b ran",
        ),
    ] {
        let found = found(&record, seen);
        assert!(
            found.iter().any(|found| found.contains(says)),
            "{says}: {found:?}"
        );
    }
    let mut gap = record("once", "COMPLETED", &["LOST"]);
    gap["attempts"] = json!([]);
    assert!(found(&gap, again)[0].contains("the attempts [2] of 2"));
    let kinds = HashMap::new();
    let asked = ["a".to_owned(), "a".to_owned()];
    let found = differences(&asked, &[], &kinds, &witness(""));
    assert_eq!(found, ["1 ids were given a second time", "a has no record"]);
}

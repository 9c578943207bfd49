//! What handlers log: whose is taken, what is kept of it, and what those hear who look on.

use contract::execution::{ExecutionLog, LogPlace};
use contract::live::Live;
use contract::run::{FinishVerdict, LogChunk, Place, RunLog, RunLogged};
use contract::{Problem, ProblemKind};
use dashfleet_scheduler::config::Timing;
use domain::OrgId;
use domain::execution::{LOG_LINE_MAX_BYTES, LOG_MAX_BYTES, Outcome};
use serde_json::json;
use uuid::Uuid;

use super::stage::{PATIENCE, PLAIN, Sort, Stage, Worker, next_of};
use super::world::{World, refused};

const CHUNKS: &str = "SELECT count(*) FROM scheduler.log_chunks";

fn chunk(place: Place, first: i64, lines: &[&str]) -> LogChunk {
    LogChunk {
        place,
        first,
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    }
}

async fn try_log(worker: &Worker, items: Vec<LogChunk>) -> Result<RunLogged, Problem> {
    let log = RunLog { items };
    worker.bus.service_call(&log, None, PATIENCE).await
}

async fn log(worker: &Worker, items: Vec<LogChunk>) -> Vec<FinishVerdict> {
    try_log(worker, items).await.unwrap().verdicts
}

#[tokio::test]
async fn lines_are_kept_once_and_shown_once_and_those_of_a_stranger_never() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 2).await;
    let place = places[0];
    let forged = Place {
        token: Uuid::new_v4(),
        ..places[1]
    };
    // Another's execution by the same number, in an organisation of the forger's own.
    let abroad = Place {
        org: OrgId::new(),
        ..place
    };
    let mut live = stage.listen("df.live.>").await;

    let said = vec![
        chunk(place, 0, &["one", "with a nul \0"]),
        chunk(forged, 0, &["forged"]),
        chunk(abroad, 0, &["abroad"]),
    ];
    assert_eq!(
        log(&worker, said.clone()).await,
        [
            FinishVerdict::Applied,
            FinishVerdict::Fenced,
            FinishVerdict::Fenced
        ]
    );
    let mut again = said;
    again.push(chunk(place, 2, &["three"]));
    assert_eq!(
        log(&worker, again).await,
        [
            FinishVerdict::Duplicate,
            FinishVerdict::Fenced,
            FinishVerdict::Fenced,
            FinishVerdict::Applied
        ]
    );
    assert_eq!(stage.rows("log_chunks").await, 2);
    // One after the other, and nothing between them.
    for (first, lines) in [(0, vec!["one", "with a nul \u{fffd}"]), (2, vec!["three"])] {
        let message = next_of(&mut live).await;
        assert_eq!(
            message.subject,
            contract::subject::live(place.org, "execution", &place.id.token())
        );
        let shown: Live = serde_json::from_slice(&message.payload).unwrap();
        let log = json!({ "attempt": 1, "first": first, "lines": lines });
        assert_eq!(shown.noun, "execution");
        assert_eq!(shown.data, json!({ "id": place.id, "log": log }));
    }
}

#[tokio::test]
async fn whoever_had_the_last_attempt_may_say_what_it_logged_and_nobody_before() {
    let stage = Stage::new(Timing::default()).await;
    let offer = stage.waiting(Sort::with_retries(1), 1).await[0];
    let worker = stage.worker().await;
    let first = worker.place(offer).await;
    worker.finish(first, Outcome::Failed).await;
    assert_eq!(stage.state(offer.id).await, "waiting");
    let late = vec![chunk(first, 0, &["what it still had to say"])];
    assert_eq!(log(&worker, late.clone()).await, [FinishVerdict::Applied]);

    let second = worker.place(offer).await;
    assert_eq!(second.attempt, 2);
    let later = vec![chunk(first, 1, &["too late"])];
    assert_eq!(log(&worker, later).await, [FinishVerdict::Fenced]);
    assert_eq!(log(&worker, late).await, [FinishVerdict::Fenced]);
    worker.finish(second, Outcome::Completed).await;
    assert_eq!(stage.state(offer.id).await, "COMPLETED");
    let last = vec![chunk(second, 0, &["done"])];
    assert_eq!(log(&worker, last.clone()).await, [FinishVerdict::Applied]);
    assert_eq!(log(&worker, last).await, [FinishVerdict::Duplicate]);
    assert_eq!(stage.rows("log_chunks").await, 2);
}

#[tokio::test]
async fn what_no_worker_says_is_refused_whole() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 1).await;
    let place = places[0];
    let good = chunk(place, 0, &["good"]);
    let long = "x".repeat(LOG_LINE_MAX_BYTES);
    let longer = format!("{long}x");
    for (bad, field) in [
        (chunk(place, 0, &["twice"]), "first"),
        (chunk(place, -1, &["negative"]), "first"),
        (chunk(place, 1, &[]), "lines"),
        (chunk(place, 1, &[longer.as_str()]), "lines"),
        (chunk(place, 1, &[long.as_str(); 9]), "lines"),
    ] {
        let answer = try_log(&worker, vec![good.clone(), bad]).await;
        assert_eq!(
            refused(answer),
            (ProblemKind::Invalid, format!("items[1].{field}"))
        );
    }
    assert_eq!(stage.rows("log_chunks").await, 0);
    let many = (0..129).map(|first| chunk(place, first, &["x"])).collect();
    assert_eq!(
        refused(try_log(&worker, many).await),
        (ProblemKind::Invalid, "items".into())
    );
}

/// A job's execution that this worker has.
async fn begun(world: &World, worker: &Worker) -> Place {
    let job = world.job(&Uuid::new_v4().to_string()).await;
    let id = world.execute(job.id).await.id;
    worker.place(world.offer(id)).await
}

#[tokio::test]
async fn of_a_long_log_the_end_is_kept() {
    let world = World::new().await;
    let worker = world.worker().await;
    let place = begun(&world, &worker).await;
    let lines = |first: i64| -> Vec<String> {
        (first..first + 10)
            .map(|line| format!("{line:0>1000}"))
            .collect()
    };
    for first in (0..120).step_by(10) {
        let item = LogChunk {
            place,
            first,
            lines: lines(first),
        };
        assert_eq!(log(&worker, vec![item]).await, [FinishVerdict::Applied]);
    }
    // Seven fill the bound, as they are stored; and one stays that shows that there was more.
    assert_eq!(world.count(CHUNKS).await, 8);
    let shown = world.get(place.id).await;
    let logs = shown.logs.unwrap();
    let most = LOG_MAX_BYTES / 1_001;
    let expected: Vec<String> = (0..120).step_by(10).flat_map(lines).collect();
    assert_eq!(logs, expected[expected.len() - most..]);
    assert_eq!(shown.logs_truncated, Some(true));
    let from_the_first = ExecutionLog {
        execution_id: place.id,
        after: None,
    };
    let page = world.ask(&from_the_first).await.unwrap();
    let kept = LogPlace {
        attempt: 1,
        line: 40,
    };
    assert_eq!(page.items[0].first, kept);
}

#[tokio::test]
async fn that_there_was_more_is_known_though_a_whole_attempt_is_not_shown() {
    let world = World::new().await;
    let worker = world.worker().await;
    for is_first_heard in [true, false] {
        let first = begun(&world, &worker).await;
        if is_first_heard {
            let said = vec![chunk(first, 0, &["of the first attempt"])];
            assert_eq!(log(&worker, said).await, [FinishVerdict::Applied]);
        }
        worker.finish(first, Outcome::HandedBack).await;
        let second = worker.place(world.offer(first.id)).await;
        assert_eq!(second.attempt, 2);
        // 40,000 bytes as they are stored, 16,000 as they are shown: nothing is cut for want of room but by whole chunks.
        let lines = ["x"; 8_000];
        for (line, expected) in [(0, false), (8_000, is_first_heard), (16_000, true)] {
            let said = vec![chunk(second, line, &lines)];
            assert_eq!(log(&worker, said).await, [FinishVerdict::Applied]);
            let shown = world.get(first.id).await;
            assert_eq!(
                shown.logs_truncated,
                Some(expected),
                "after line {line} ({is_first_heard})"
            );
        }
    }
    // Of each the last two, and the one before.
    assert_eq!(world.count(CHUNKS).await, 6);
}

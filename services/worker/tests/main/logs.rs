//! What handlers log arrives before their end does, and cannot be more than is bearable.

use std::time::Duration;

use dashfleet_worker::Level;
use domain::execution::{LOG_MAX_BYTES, Outcome};
use serde_json::{Value, json};

use super::scheduler::PATIENCE;
use super::world::{World, does};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_arrive_in_order_and_before_the_finish() {
    let handler = does(|context| {
        Box::pin(async move {
            for n in 0..100 {
                context.log(Level::Info, &format!("line {n}"));
                if n % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
            context.log(Level::Error, "the last\nof all");
            Ok(Value::Null)
        })
    });
    let world = World::with("test/talks", handler).await;
    let id = world.scheduler.run("test/talks", json!({})).await;
    let quiet = world.scheduler.run("builtin/noop", json!({})).await;
    world.scheduler.ended(id).await;
    world.scheduler.ended(quiet).await;
    let state = world.scheduler.state();
    let lines = state.lines_of(id);
    assert_eq!(lines.len(), 102);
    for (n, line) in lines.iter().take(100).enumerate() {
        assert!(
            line.starts_with("[INFO] 2") && line.ends_with(&format!("[test/talks] line {n}")),
            "{line}"
        );
    }
    assert!(
        lines[101].starts_with("[ERROR]") && lines[101].ends_with("of all"),
        "{}",
        lines[101]
    );
    let mut next = 0;
    for chunk in &state.logs {
        assert_eq!(chunk.first, next);
        next += i64::try_from(chunk.lines.len()).unwrap();
    }
    // Gathered: not a message for each line. And there when the finish came.
    assert!(state.logs.len() < 20, "{}", state.logs.len());
    let (_, by_then) = state
        .applied
        .iter()
        .find(|(finish, _)| finish.place.id == id)
        .unwrap();
    assert_eq!(*by_then, 102);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_logs_without_end_loses_lines_and_is_told_how_many() {
    let line = "z".repeat(1_000);
    let text = line.clone();
    let handler = does(move |context| {
        let line = text.clone();
        Box::pin(async move {
            for _ in 0..20_000 {
                context.log(Level::Info, &line);
            }
            Ok(Value::Null)
        })
    });
    let world = World::with("test/floods", handler).await;
    let id = world.scheduler.run("test/floods", json!({})).await;
    world.scheduler.ended(id).await;
    let state = world.scheduler.state();
    for chunk in &state.logs {
        let bytes: usize = chunk.lines.iter().map(String::len).sum();
        assert!(bytes <= LOG_MAX_BYTES, "{bytes}");
    }
    let lines = state.lines_of(id);
    let kept = lines.iter().filter(|kept| kept.ends_with(&line)).count();
    let dropped: usize = lines
        .iter()
        .filter(|line| line.contains("are left out here"))
        .map(|line| {
            let (before, _) = line.split_once(" lines (").expect("a count");
            before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    assert_eq!(kept + dropped, 20_000);
    assert!(kept > 20 && kept < 10_000, "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_is_not_handed_back_because_its_log_hangs() {
    let handler = does(|context| {
        Box::pin(async move {
            context.log(Level::Info, "nobody hears this");
            Ok(Value::Null)
        })
    });
    let mut world = World::with("test/talks", handler).await;
    world.scheduler.state().logs_away = true;
    let id = world.scheduler.run("test/talks", json!({})).await;
    testkit::eventually("it has ended", PATIENCE, || async {
        world.witnessed().get(1).cloned()
    })
    .await;
    world.stop();
    world.stopped().await;
    let state = world.scheduler.state();
    let finishes = state.applied.iter();
    let outcomes: Vec<Outcome> = finishes
        .filter(|(finish, _)| finish.place.id == id)
        .map(|(finish, _)| finish.outcome)
        .collect();
    assert_eq!(outcomes, [Outcome::Completed]);
}

//! How an attempt ended is said until the scheduler has answered.

use std::time::Duration;

use domain::ExecutionId;
use domain::execution::Outcome;
use serde_json::{Value, json};
use testkit::eventually;

use super::scheduler::PATIENCE;
use super::world::{Gauge, Options, World, does};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_is_said_until_it_is_answered_and_then_no_more() {
    let world = World::new(Options::default()).await;
    world.scheduler.state().finishes_lost = 2;
    world.scheduler.state().finishes_retried = 1;
    let id = world.scheduler.run("builtin/noop", json!({})).await;
    // Retried once, applied with a lost answer, then a duplicate.
    world
        .scheduler
        .until("it is said again", |state| {
            (state.finishes.len() >= 3 && state.finishes_lost == 0).then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let said = world.scheduler.state().finishes.len();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let state = world.scheduler.state();
    assert_eq!(state.finishes.len(), said, "answered is answered");
    assert!(state.finishes.iter().all(|finish| finish.place.id == id));
    assert_eq!(state.applied.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_that_waits_holds_no_slot() {
    let gauge = Gauge::default();
    let counting = gauge.clone();
    let handler = does(move |_| {
        drop(counting.enter());
        Box::pin(async { Ok(Value::Null) })
    });
    let world = World::new(Options {
        concurrency: 1,
        handlers: dashfleet_worker::Handlers::builtin().with("test/count", handler),
        ..Options::default()
    })
    .await;
    world.scheduler.state().finishes_away = true;
    let ids: Vec<ExecutionId> = (0..20)
        .map(|_| world.scheduler.execution("test/count", json!({})))
        .collect();
    eventually("all of them run", PATIENCE, || async {
        let waiting: Vec<ExecutionId> = world.scheduler.state().waiting.keys().copied().collect();
        world.scheduler.offer(&waiting).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        (gauge.all() == ids.len()).then_some(())
    })
    .await;
    assert!(world.scheduler.state().applied.is_empty());
    world.scheduler.state().finishes_away = false;
    for id in ids {
        assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    }
    assert_eq!(gauge.all(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_counts_though_the_bus_was_away_meanwhile() {
    let (gauge, gate) = (
        Gauge::default(),
        std::sync::Arc::new(tokio::sync::Notify::new()),
    );
    let (counting, waiting) = (gauge.clone(), gate.clone());
    let handler = does(move |_| {
        let (inside, gate) = (counting.enter(), waiting.clone());
        Box::pin(async move {
            gate.notified().await;
            drop(inside);
            Ok(json!({ "done": true }))
        })
    });
    let mut world = World::with("test/gate", handler).await;
    let id = world.scheduler.run("test/gate", json!({})).await;
    eventually("it runs", PATIENCE, || async {
        (gauge.now() == 1).then_some(())
    })
    .await;
    world.nats.kill();
    gate.notify_one();
    eventually("it ends", PATIENCE, || async {
        (gauge.now() == 0).then_some(())
    })
    .await;
    // The port is free once the process is gone.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.nats.launch_again();
    let finish = world.scheduler.ended(id).await;
    assert_eq!(
        (finish.outcome, finish.result),
        (Outcome::Completed, Some(json!({ "done": true })))
    );
    assert_eq!(
        world.scheduler.state().begins.len(),
        1,
        "the session outlives a short absence"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_too_long_fails_for_good() {
    let handler = does(|_| Box::pin(async { Ok(json!("x".repeat(70_000))) }));
    let world = World::with("test/long", handler).await;
    let id = world.scheduler.run("test/long", json!({})).await;
    let finish = world.scheduler.ended(id).await;
    assert!(finish.outcome == Outcome::Failed && finish.permanent && finish.result.is_none());
    let message = finish.error.expect("a reason").message;
    assert!(message.contains("70002 bytes"), "{message}");
}

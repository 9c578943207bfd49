//! How handlers end: by themselves, because their time is up, because somebody cancelled, because the worker ends.

use std::time::{Duration, Instant};

use dashfleet_worker::{Failure, Handlers};
use domain::ExecutionId;
use domain::execution::Outcome;
use serde_json::{Value, json};
use testkit::eventually;

use super::scheduler::PATIENCE;
use super::world::{Gauge, Options, World, does};

/// Longer than a worker takes to end that waits for nobody.
const HELD: Duration = Duration::from_secs(8);

/// Handlers that hear nothing, that fail, that panic, and that hold their thread.
fn handlers(gauge: &Gauge) -> Handlers {
    let [counting, polite, holding] = [(); 3].map(|()| gauge.clone());
    Handlers::builtin()
        .with(
            "test/deaf",
            does(move |_| {
                let inside = counting.enter();
                Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(inside);
                    Ok(Value::Null)
                })
            }),
        )
        .with(
            "test/polite",
            does(move |context| {
                let inside = polite.enter();
                Box::pin(async move {
                    context.cancelled().await;
                    drop(inside);
                    Ok(json!({ "saved": true }))
                })
            }),
        )
        .with(
            "test/fails",
            does(|context| {
                Box::pin(async move {
                    let mut failure = Failure::new("no");
                    failure.permanent = context.config.contains_key("permanent");
                    failure.stack = Some("at line 1".into());
                    Err(failure)
                })
            }),
        )
        .with(
            "test/panics",
            does(|_| Box::pin(async { panic!("at the disco") })),
        )
        .with(
            "test/panics-early",
            does(|_| panic!("before the first step")),
        )
        .with(
            "test/holds-its-thread",
            does(move |_| {
                let inside = holding.enter();
                Box::pin(async move {
                    // What else this thread had to do goes on in another, and need not wait for it.
                    tokio::task::block_in_place(|| std::thread::sleep(HELD));
                    drop(inside);
                    Ok(Value::Null)
                })
            }),
        )
}

async fn world(gauge: &Gauge, drain: Duration) -> World {
    World::new(Options {
        drain,
        handlers: handlers(gauge),
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_whose_time_is_up_is_asked_to_end_and_then_dropped() {
    let gauge = Gauge::default();
    let world = world(&gauge, Duration::from_secs(5)).await;
    let run = |handler: &str, config: Value| {
        let id = world
            .scheduler
            .execution_with(handler, config, |assignment| {
                assignment.timeout_ms = 200;
            });
        let scheduler = &world.scheduler;
        async move {
            let began = Instant::now();
            scheduler.offer(&[id]).await;
            (scheduler.ended(id).await, began.elapsed())
        }
    };
    let (asleep, took) = run("builtin/sleep", json!({ "ms": 60_000 })).await;
    assert_eq!(asleep.outcome, Outcome::Timeout);
    assert!(
        (Duration::from_millis(200)..Duration::from_secs(1)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        asleep.error.expect("a reason").message,
        "took longer than 200 ms"
    );
    let (deaf, took) = run("test/deaf", json!({})).await;
    assert_eq!(deaf.outcome, Outcome::Timeout);
    assert!(took >= Duration::from_millis(1_200), "{took:?}");
    assert!(deaf.duration_ms >= 1_200, "{}", deaf.duration_ms);
    assert_eq!(gauge.now(), 0, "it is gone");
    // What was done in time to be saved is done.
    let (polite, _) = run("test/polite", json!({})).await;
    assert_eq!(polite.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_somebody_cancelled_ends() {
    let gauge = Gauge::default();
    let world = world(&gauge, Duration::from_secs(5)).await;
    let asleep = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 60_000 }))
        .await;
    let deaf = world.scheduler.run("test/deaf", json!({})).await;
    let other = world.scheduler.run("test/deaf", json!({})).await;
    eventually("they run", PATIENCE, || async {
        (gauge.now() == 2).then_some(())
    })
    .await;
    world.scheduler.begun(asleep).await;
    world.scheduler.state().cancelled = vec![asleep, deaf];
    for id in [asleep, deaf] {
        let finish = world.scheduler.ended(id).await;
        assert_eq!(finish.outcome, Outcome::Cancelled);
    }
    assert!(world.scheduler.state().running.contains_key(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_or_panics_is_failed_and_the_worker_goes_on() {
    let gauge = Gauge::default();
    let world = world(&gauge, Duration::from_secs(5)).await;
    for (handler, config, message, permanent) in [
        ("test/fails", json!({}), "no", false),
        ("test/fails", json!({ "permanent": 1 }), "no", true),
        (
            "test/panics",
            json!({}),
            "the handler panicked: at the disco",
            false,
        ),
        (
            "test/panics-early",
            json!({}),
            "the handler panicked: before the first step",
            false,
        ),
        (
            "test/nowhere",
            json!({}),
            "this worker has no handler `test/nowhere`",
            true,
        ),
        (
            "builtin/sleep",
            json!({ "ms": "long" }),
            "config.ms: must be an integer",
            true,
        ),
        (
            "builtin/sleep",
            json!({ "seconds": 1 }),
            "config.seconds: is not a field",
            true,
        ),
    ] {
        let id = world.scheduler.run(handler, config).await;
        let finish = world.scheduler.ended(id).await;
        assert_eq!(
            (finish.outcome, finish.permanent),
            (Outcome::Failed, permanent),
            "{handler}"
        );
        let error = finish.error.expect("a reason");
        assert!(
            error.message.starts_with(message),
            "{handler}: {}",
            error.message
        );
    }
    // An unknown handler is none that begins or ends.
    let witnessed = world.witnessed();
    let words: Vec<&str> = witnessed.iter().map(|(word, ..)| word.as_str()).collect();
    assert_eq!(words, ["start", "fail"].repeat(6));
    let id = world.scheduler.run("builtin/noop", json!({})).await;
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    assert_eq!(world.scheduler.state().begins.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_lets_handlers_finish_and_hands_back_the_rest() {
    let gauge = Gauge::default();
    let mut world = world(&gauge, Duration::from_millis(800)).await;
    let short = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 400 }))
        .await;
    let long = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 60_000 }))
        .await;
    let polite = world.scheduler.run("test/polite", json!({})).await;
    let deaf = world.scheduler.run("test/deaf", json!({})).await;
    for id in [short, long, polite, deaf] {
        world.scheduler.begun(id).await;
    }
    eventually("they run", PATIENCE, || async {
        (gauge.now() == 2).then_some(())
    })
    .await;
    let began = Instant::now();
    world.stop();
    let session = world.scheduler.state().begins[0].session_id;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = world.scheduler.run("builtin/noop", json!({})).await;
    world.stopped().await;
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(1_800)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
    let outcome = |id: ExecutionId| {
        let state = world.scheduler.state();
        let mut applied = state.applied.iter();
        applied
            .find(|(finish, _)| finish.place.id == id)
            .map(|(finish, _)| finish.outcome)
    };
    assert_eq!(outcome(short), Some(Outcome::Completed), "it had time");
    assert_eq!(outcome(polite), Some(Outcome::Completed), "it was asked");
    assert_eq!(outcome(long), Some(Outcome::HandedBack));
    assert_eq!(outcome(deaf), Some(Outcome::HandedBack));
    assert_eq!(gauge.now(), 0);
    let state = world.scheduler.state();
    assert_eq!(state.ends, [session]);
    assert!(state.running.is_empty());
    let claimed = |id: ExecutionId| {
        let mut offers = state.claims.iter().flat_map(|(claim, _)| &claim.offers);
        offers.any(|offer| offer.id == id)
    };
    assert!(!claimed(late), "nothing more is claimed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_handler_cannot_be_stopped_in_begins_nowhere_else_while_it_goes_on() {
    let gauge = Gauge::default();
    let mut world = world(&gauge, Duration::from_millis(200)).await;
    let stuck = world
        .scheduler
        .run("test/holds-its-thread", json!({}))
        .await;
    let long = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 60_000 }))
        .await;
    for id in [stuck, long] {
        world.scheduler.begun(id).await;
    }
    eventually("it holds its thread", PATIENCE, || async {
        (gauge.now() == 1).then_some(())
    })
    .await;
    world.stop();
    world.stopped().await;
    assert_eq!(gauge.now(), 1, "it is there yet");
    let state = world.scheduler.state();
    assert!(state.ends.is_empty(), "its session is left to expire");
    let running: Vec<&ExecutionId> = state.running.keys().collect();
    assert_eq!(running, [&stuck], "the other is handed back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ends_cleanly_when_it_is_told_to() {
    let world = World::without_worker(Duration::from_secs(10)).await;
    let mut process = world.process();
    world.session(1).await;
    let id = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 500 }))
        .await;
    world.scheduler.begun(id).await;
    process.signal("TERM");
    assert!(process.ended().await);
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    assert_eq!(world.scheduler.state().ends.len(), 1);
    assert_eq!(world.witnessed().len(), 2);
}

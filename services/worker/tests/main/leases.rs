//! No handler takes a step after its lease, and what was lost is given back as a whole.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashfleet_worker::Handlers;
use dashfleet_worker::app::lease::boot_now;
use domain::execution::Outcome;
use serde_json::{Value, json};
use testkit::eventually;
use uuid::Uuid;

use super::scheduler::PATIENCE;
use super::world::{Gauge, Options, World, does};

const LEASE: Duration = Duration::from_secs(2);
/// Eight tenths of it.
const OVER: Duration = Duration::from_millis(1_600);

/// A handler that notes when it takes each of its steps.
type Steps = Arc<Mutex<Vec<Duration>>>;

async fn stepping(lease: Duration) -> (World, Steps, Gauge) {
    let (steps, gauge) = (Steps::default(), Gauge::default());
    let (noted, counting) = (steps.clone(), gauge.clone());
    let handler = does(move |_| {
        let (noted, inside) = (noted.clone(), counting.enter());
        Box::pin(async move {
            loop {
                noted.lock().unwrap().push(boot_now());
                tokio::time::sleep(Duration::from_millis(5)).await;
                // Held until it is dropped.
                let _ = &inside;
            }
        })
    });
    let world = World::new(Options {
        lease,
        handlers: Handlers::builtin().with("test/steps", handler),
        ..Options::default()
    })
    .await;
    (world, steps, gauge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_takes_no_step_once_its_lease_is_over() {
    let (world, steps, gauge) = stepping(LEASE).await;
    let id = world.scheduler.run("test/steps", json!({})).await;
    eventually("it steps", PATIENCE, || async {
        (steps.lock().unwrap().len() > 10).then_some(())
    })
    .await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(gauge.now(), 1, "renewals keep it alive");
    world.scheduler.state().silent = true;
    let answered = *world.scheduler.state().renewed.last().expect("a renewal");
    eventually("it is dropped", PATIENCE, || async {
        (gauge.now() == 0).then_some(())
    })
    .await;
    let last = *steps.lock().unwrap().last().unwrap();
    // The worker counts from when it asked, which was before the scheduler heard it.
    assert!(last <= answered + OVER, "{last:?} after {answered:?}");
    assert!(
        last > answered + OVER / 2,
        "it was dropped too early: {last:?}"
    );
    let before = steps.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(steps.lock().unwrap().len(), before);
    let witnessed = world.witnessed();
    let words: Vec<&str> = witnessed.iter().map(|(word, ..)| word.as_str()).collect();
    assert_eq!(words, ["start", "cut"], "what is dropped has an end too");
    assert!(
        witnessed[1].3 >= last.as_nanos(),
        "{witnessed:?} after {last:?}"
    );
    let first = world.scheduler.state().begins[0].session_id;
    world.scheduler.state().silent = false;
    world.session(2).await;
    let state = world.scheduler.state();
    assert_eq!(
        state.begins[1].replaces,
        Some(first),
        "its handlers are gone"
    );
    assert!(state.finishes.is_empty(), "{:?}", state.finishes);
    assert!(state.waiting.contains_key(&id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_expired_is_replaced_and_the_next_one_works() {
    let (world, _, gauge) = stepping(LEASE).await;
    let id = world.scheduler.run("test/steps", json!({})).await;
    eventually("it runs", PATIENCE, || async {
        (gauge.now() == 1).then_some(())
    })
    .await;
    world.scheduler.state().expired = true;
    world.session(2).await;
    assert_eq!(
        gauge.now(),
        0,
        "what it had is ended before the next session begins"
    );
    {
        let state = world.scheduler.state();
        let first = state.begins[0].session_id;
        assert_eq!(state.begins[1].replaces, Some(first));
    }
    // It begins again, as another attempt.
    world.scheduler.offer(&[id]).await;
    eventually("it runs again", PATIENCE, || async {
        (gauge.now() == 1).then_some(())
    })
    .await;
    assert_eq!(gauge.all(), 2);
    let starts: Vec<i32> = world
        .witnessed()
        .into_iter()
        .filter(|(word, ..)| word == "start")
        .map(|(_, _, attempt, _)| attempt)
        .collect();
    assert_eq!(starts, [1, 2]);
}

/// The scheduler stood still for longer than the lease. Asked to replace the session before it has heard what was done in it, it
/// would have that done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_replaced_when_what_was_done_in_it_is_answered_and_not_before() {
    let world = World::new(Options {
        lease: LEASE,
        ..Options::default()
    })
    .await;
    world.scheduler.state().finishes_away = true;
    let id = world.scheduler.run("builtin/noop", json!({})).await;
    world.scheduler.begun(id).await;
    world.scheduler.state().silent = true;
    tokio::time::sleep(LEASE).await;
    world.scheduler.state().silent = false;
    world.session(2).await;
    let first = {
        let state = world.scheduler.state();
        assert_eq!(state.begins[1].replaces, None);
        assert!(state.running.contains_key(&id));
        state.begins[0].session_id
    };
    world.scheduler.state().finishes_away = false;
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    world.session(3).await;
    let state = world.scheduler.state();
    assert_eq!(state.begins[2].replaces, Some(first));
    assert_eq!(state.begins[2].session_id, state.begins[1].session_id);
    assert!(state.waiting.is_empty(), "it is not to run again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_past_its_lease_runs_nothing_of_it() {
    let world = World::without_worker(LEASE).await;
    let process = world.process();
    world.session(1).await;
    // It would be ready while the process is stopped.
    let id = world
        .scheduler
        .run("builtin/sleep", json!({ "ms": 1_000 }))
        .await;
    eventually("it begins", PATIENCE, || async {
        (world.witnessed().len() == 1).then_some(())
    })
    .await;
    process.signal("STOP");
    tokio::time::sleep(LEASE + Duration::from_millis(500)).await;
    process.signal("CONT");
    world.session(2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let witnessed = world.witnessed();
    let words: Vec<&str> = witnessed.iter().map(|(word, ..)| word.as_str()).collect();
    assert_eq!(words, ["start", "cut"]);
    let state = world.scheduler.state();
    assert!(state.finishes.is_empty(), "{:?}", state.finishes);
    assert!(state.waiting.contains_key(&id) && state.begins[1].replaces.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_refused_what_it_asks_for_while_the_lease_is_in_doubt() {
    let handler = does(|context| {
        Box::pin(async move {
            loop {
                let asked = egress::Request::get(Uuid::nil(), "nowhere");
                let refused = context.fetch(asked).await.unwrap_err();
                if !refused.message.starts_with("url: ") {
                    return Err(refused);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    let world = World::new(Options {
        lease: Duration::from_secs(4),
        handlers: Handlers::builtin().with("test/asks", handler),
        ..Options::default()
    })
    .await;
    let id = world.scheduler.run("test/asks", json!({})).await;
    world.scheduler.begun(id).await;
    world.scheduler.state().silent = true;
    let finish = world.scheduler.ended(id).await;
    assert_eq!(
        finish.outcome,
        Outcome::HandedBack,
        "no attempt is used up: {finish:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_travels_with_the_renewals_until_it_is_written() {
    let handler = does(|context| {
        Box::pin(async move {
            for step in 0..1_000 {
                context.progress(json!({ "step": step })).unwrap();
            }
            assert!(context.progress(json!("x".repeat(5_000))).is_err());
            context.cancelled().await;
            Ok(Value::Null)
        })
    });
    let world = World::new(Options {
        lease: LEASE,
        handlers: Handlers::builtin().with("test/steps", handler),
        ..Options::default()
    })
    .await;
    world.scheduler.state().progress_missed = 2;
    let id = world.scheduler.run("test/steps", json!({})).await;
    let said = world
        .scheduler
        .until("the last word", |state| {
            state
                .progress
                .iter()
                .find(|word| word.place.id == id)
                .cloned()
        })
        .await;
    assert_eq!(said.progress, json!({ "step": 999 }));
}

//! Nothing begins without a claim, and nothing twice by one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use contract::run::RunClaim;
use dashfleet_worker::Handlers;
use domain::ExecutionId;
use domain::execution::Outcome;
use serde_json::{Value, json};
use testkit::eventually;

use super::scheduler::PATIENCE;
use super::world::{Gauge, Options, World, does};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_claimed_at_once_and_what_is_given_runs() {
    let world = World::new(Options::default()).await;
    let mut took = Vec::new();
    for _ in 0..10 {
        let id = world.scheduler.execution("builtin/noop", json!({}));
        let offered = Instant::now();
        world.scheduler.offer(&[id]).await;
        let finish = world.scheduler.ended(id).await;
        assert_eq!(
            (finish.outcome, finish.place.attempt),
            (Outcome::Completed, 1)
        );
        assert!(finish.result.is_none() && finish.error.is_none());
        let state = world.scheduler.state();
        let (_, claimed) = state
            .claims
            .iter()
            .find(|(claim, _)| claim.offers.iter().any(|offer| offer.id == id))
            .expect("a claim");
        took.push(claimed.duration_since(offered));
    }
    took.sort();
    // No tick and no delay to gather: what remains is the way over the bus.
    assert!(took[5] < Duration::from_millis(100), "{took:?}");
    let witnessed = world.witnessed();
    let words: Vec<&str> = witnessed.iter().map(|(word, ..)| word.as_str()).collect();
    assert_eq!(words, ["start", "end"].repeat(10));
    assert!(witnessed.is_sorted_by_key(|(.., at)| *at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_is_lost_is_repeated_and_starts_nothing_twice() {
    let gauge = Gauge::default();
    let counting = gauge.clone();
    let world = World::with(
        "test/count",
        does(move |_| {
            let inside = counting.enter();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(inside);
                Ok(Value::Null)
            })
        }),
    )
    .await;
    world.scheduler.state().claims_lost = 2;
    let ids: Vec<ExecutionId> = (0..3)
        .map(|_| world.scheduler.execution("test/count", json!({})))
        .collect();
    world.scheduler.offer(&ids).await;
    for id in &ids {
        assert_eq!(world.scheduler.ended(*id).await.outcome, Outcome::Completed);
    }
    assert_eq!(gauge.all(), 3);
    let state = world.scheduler.state();
    assert_eq!(state.finishes.len(), 3);
    assert!(state.claims.len() >= 3);
    let first = &state.claims[0].0;
    assert!(
        state.claims[..3]
            .iter()
            .all(|(claim, _)| claim.session_id == first.session_id)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_comes_again_while_it_runs_is_not_claimed_again() {
    let gauge = Gauge::default();
    let counting = gauge.clone();
    let world = World::with(
        "test/count",
        does(move |context| {
            let inside = counting.enter();
            Box::pin(async move {
                context.cancelled().await;
                drop(inside);
                Ok(Value::Null)
            })
        }),
    )
    .await;
    let id = world.scheduler.run("test/count", json!({})).await;
    eventually("it runs", PATIENCE, || async {
        (gauge.now() == 1).then_some(())
    })
    .await;
    // The stand-in would give it again, as the scheduler does when it is asked again.
    for _ in 0..20 {
        world.scheduler.offer(&[id, id]).await;
    }
    // What comes after it is claimed, so the others were heard.
    let after = world.scheduler.run("builtin/noop", json!({})).await;
    world.scheduler.ended(after).await;
    assert_eq!((gauge.all(), gauge.now()), (1, 1));
    // Also not while its finish has no answer.
    world.scheduler.state().finishes_away = true;
    world.scheduler.state().cancelled.push(id);
    eventually("it ends", PATIENCE, || async {
        (gauge.now() == 0).then_some(())
    })
    .await;
    for _ in 0..20 {
        world.scheduler.offer(&[id]).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gauge.all(), 1);
    world.scheduler.state().finishes_away = false;
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_given_does_not_begin() {
    let world = World::new(Options::default()).await;
    let unknown: Vec<ExecutionId> = (0..3).map(|_| ExecutionId::new()).collect();
    let known = world.scheduler.execution("builtin/noop", json!({}));
    world
        .scheduler
        .offer(&[unknown[0], unknown[1], known, unknown[2]])
        .await;
    world.scheduler.ended(known).await;
    let witnessed = world.witnessed();
    assert!(
        witnessed.iter().all(|(_, id, ..)| *id == known.to_string()),
        "{witnessed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_handlers_run_at_once_than_were_allowed_and_all_of_them_run() {
    let gauge = Gauge::default();
    let counting = gauge.clone();
    let handler = does(move |_| {
        let counting = counting.clone();
        Box::pin(async move {
            let _inside = counting.enter();
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(Value::Null)
        })
    });
    let world = World::new(Options {
        concurrency: 3,
        handlers: Handlers::builtin().with("test/count", handler),
        ..Options::default()
    })
    .await;
    let ids: Vec<ExecutionId> = (0..400)
        .map(|_| world.scheduler.execution("test/count", json!({})))
        .collect();
    // As the dispatcher does: what was not answered is offered again.
    while gauge.all() < ids.len() {
        let waiting: Vec<ExecutionId> = world.scheduler.state().waiting.keys().copied().collect();
        for part in waiting.chunks(16) {
            world.scheduler.offer(part).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in &ids {
        world.scheduler.ended(*id).await;
    }
    assert_eq!((gauge.most(), gauge.all()), (3, 400));
    let state = world.scheduler.state();
    assert!(
        state
            .claims
            .iter()
            .all(|(claim, _)| claim.offers.len() <= 503)
    );
    let completed = state
        .applied
        .iter()
        .filter(|(finish, _)| finish.outcome == Outcome::Completed);
    assert_eq!(completed.count(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prefetched_and_finds_no_slot_is_handed_back_soon() {
    let world = World::new(Options {
        concurrency: 1,
        ..Options::default()
    })
    .await;
    // Fast ones, so that there is prefetching, then ones that hold the only slot.
    for _ in 0..30 {
        let ids: Vec<ExecutionId> = (0..20)
            .map(|_| world.scheduler.execution("builtin/noop", json!({})))
            .collect();
        world.scheduler.offer(&ids).await;
        world.scheduler.ended(ids[0]).await;
    }
    let long: Vec<ExecutionId> = (0..50)
        .map(|_| {
            world
                .scheduler
                .execution("builtin/sleep", json!({ "ms": 30_000 }))
        })
        .collect();
    world.scheduler.offer(&long).await;
    world.scheduler.begun(long[0]).await;
    world
        .scheduler
        .until("only one is held", |state| {
            let running = long
                .iter()
                .filter(|id| state.running.contains_key(id))
                .count();
            (running == 1).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_offered_and_finds_no_room_is_returned_to_others() {
    let world = World::new(Options {
        concurrency: 1,
        ..Options::default()
    })
    .await;
    let sleep = || {
        let config = json!({ "ms": 30_000 });
        world.scheduler.execution("builtin/sleep", config)
    };
    // One message: the first gets the only slot, the others came with it.
    let ids: Vec<ExecutionId> = (0..4).map(|_| sleep()).collect();
    world.scheduler.offer(&ids).await;
    world
        .scheduler
        .until("the others are returned", |state| {
            let claims = state.claims.iter().map(|(claim, _)| claim);
            let returned: HashSet<ExecutionId> =
                claims.flat_map(|claim| claim.returned.clone()).collect();
            let running = ids.iter().filter(|id| state.running.contains_key(id));
            (returned.len() == 3 && running.count() == 1).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_come_again_after_the_bus_was_away() {
    let mut world = World::new(Options::default()).await;
    let id = world.scheduler.run("builtin/noop", json!({})).await;
    world.scheduler.ended(id).await;
    world.nats.kill_and_restart().await;
    let bootstrap = world.nats.bus("bootstrap").await;
    let pools = ["default".to_owned()];
    eventually("streams", PATIENCE, || async {
        bootstrap.ensure_streams(1, &pools).await.ok()
    })
    .await;
    // An offer that is made while nobody hears it is lost: it is made again.
    let id = world.scheduler.execution("builtin/noop", json!({}));
    eventually("it ends", PATIENCE, || async {
        world.scheduler.offer(&[id]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let state = world.scheduler.state();
        state
            .applied
            .iter()
            .any(|(finish, _)| finish.place.id == id)
            .then_some(())
    })
    .await;
}

/// A claim that was asked twice, of two replicas, may be refused by one where the other is committing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_and_never_told_is_claimed_once_more() {
    let world = World::new(Options {
        lease: Duration::from_secs(2),
        ..Options::default()
    })
    .await;
    world.scheduler.state().claims_hidden = 1;
    let id = world.scheduler.run("builtin/noop", json!({})).await;
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    let state = world.scheduler.state();
    let of = |claim: &&(RunClaim, Instant)| claim.0.offers.iter().any(|offer| offer.id == id);
    assert_eq!(state.claims.iter().filter(of).count(), 2);
    assert_eq!(state.begins.len(), 1);
}

//! Random limits, while several workers claim and finish at once, limits and rates change, and jobs and whole organisations pause:
//! none is ever exceeded, nothing begins of what is paused, and nothing that may begin waits beside a free slot. A round is made
//! of a seed ([`plan`]), set up and changed ([`cast`]), worked off ([`work`]) and looked at the whole time ([`watch`], and [`rate`]
//! what a rate allows).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashfleet_scheduler::config::Timing;
use testkit::random::Random;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::cast::Cast;
use self::plan::Plan;
use self::watch::Watch;
use super::limits::WRONG;
use super::stage::{PATIENCE, Stage};

mod cast;
mod plan;
mod rate;
mod watch;
mod work;

/// So many rounds at most,
const ROUNDS: usize = 8;
/// and none that begins later.
const TIME: Duration = Duration::from_secs(18);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_random_limits_none_is_exceeded_and_nothing_waits_beside_a_free_slot() {
    let mut random = Random::announced("random limits");
    // Played workers give back what they have no slot for, and some of it is on its way to them then: that is offered again
    // sooner than anything may wait.
    let timing = Timing {
        offer_again: Duration::from_millis(500),
        ..Timing::default()
    };
    let stage = Stage::with_replicas(2, timing).await;
    let holders = "SELECT count(*) FROM scheduler.dispatchers WHERE held_until > now()";
    testkit::eventually("somebody offers", PATIENCE, || async {
        (stage.count(holders).await > 0).then_some(())
    })
    .await;
    let began = Instant::now();
    for number in 0..ROUNDS {
        if began.elapsed() >= TIME {
            break;
        }
        let plan = Plan::of(&mut random);
        println!("round {number}: {plan:?}");
        round(&stage, &plan).await;
    }
}

async fn round(stage: &Stage, plan: &Plan) {
    let cast = Cast::begin(stage, plan).await;
    let over = Arc::<AtomicBool>::default();
    let mut workers = JoinSet::new();
    for slots in &plan.slots {
        let worker = stage.worker_with(*slots).await;
        let (takes, over) = (cast.takes.clone(), over.clone());
        workers.spawn(work::work(worker, *slots as usize, takes, over));
    }
    let changes = async {
        let began = Instant::now();
        for change in &plan.changes {
            tokio::time::sleep_until(began + change.at).await;
            cast.change(stage, change).await;
        }
    };
    let mut watch = Watch::begin(stage, &cast, plan.slots.iter().sum()).await;
    let watched = async {
        while !watch.look().await {
            tokio::time::sleep(watch::EVERY).await;
        }
    };
    tokio::join!(changes, watched);
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let ended = stage.count(&cast.ended()).await;
    assert_eq!(ended, plan.count() as i64, "all of them ended");
    assert_eq!(stage.count(WRONG).await, 0, "counters are not what runs");
    println!("{ended} ended; {}", watch.told());
}

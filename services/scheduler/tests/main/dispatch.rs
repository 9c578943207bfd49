//! What waits is offered, and nothing that may not begin for long.

use std::time::Duration;

use contract::run::{Offer, Place};
use dashfleet_scheduler::config::Timing;
use domain::OrgId;
use domain::execution::Outcome;
use proptest::prelude::*;
use tokio::time::Instant;

use super::stage::{PATIENCE, PLAIN, Sort, Stage, Worker};

/// What may begin and nobody has: rows that wait in a lane of which every limit has room.
const IDLE: &str = "
    SELECT count(*) FROM scheduler.waiting AS w
    JOIN scheduler.jobs AS j ON j.org_id = w.org_id AND j.id = w.job_id
    JOIN scheduler.tenants AS t ON t.org_id = w.org_id
    WHERE w.due AND j.paused_at IS NULL AND t.paused_at IS NULL
        AND coalesce((SELECT count(*) FROM scheduler.running AS r WHERE r.org_id = w.org_id) < t.concurrency, true)
        AND coalesce((SELECT count(*) FROM scheduler.running AS r WHERE r.job_id = w.job_id) < j.concurrency, true)
        AND (w.key = '' OR coalesce((SELECT count(*) FROM scheduler.running AS r WHERE r.job_id = w.job_id AND r.key = w.key)
            < j.key_concurrency, true))";

/// Takes offers and claims them until nothing more may begin; what it then has.
async fn drain(stage: &Stage, worker: &Worker, has: &mut Vec<Place>) {
    let mut feed = worker.bus.offers("default");
    let until = Instant::now() + PATIENCE;
    while stage.count(IDLE).await > 0 {
        assert!(Instant::now() < until, "something waits beside a free slot");
        let offers = tokio::time::timeout(Duration::from_millis(100), feed.next(64)).await;
        let offers: Vec<Offer> = offers.unwrap_or_default();
        if !offers.is_empty() {
            let granted = worker.claim(&offers).await;
            has.extend(granted.into_iter().map(|granted| granted.place));
        }
    }
}

fn limit() -> impl Strategy<Value = Option<i32>> {
    prop_oneof![Just(None), (1..5_i32).prop_map(Some)]
}

fn sort() -> impl Strategy<Value = Sort> {
    (limit(), limit()).prop_map(|(concurrency, key_concurrency)| Sort {
        concurrency,
        key_concurrency,
        ..PLAIN
    })
}

/// Jobs with what waits of each: by key.
fn load() -> impl Strategy<Value = Vec<(Sort, Vec<usize>)>> {
    prop::collection::vec((sort(), prop::collection::vec(0..12_usize, 3)), 1..5)
}

#[test]
fn under_random_limits_none_is_exceeded_and_nothing_waits_beside_a_free_slot() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let stage = runtime.block_on(Stage::with_replicas(2, Timing::default()));
    let worker = runtime.block_on(stage.worker());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    });
    runner
        .run(&(load(), limit()), |(load, tenant)| {
            runtime.block_on(async {
                let org = OrgId::new();
                let mut total = 0;
                for (sort, keys) in load {
                    let job = stage.job(org, sort).await;
                    for (count, key) in keys.into_iter().zip(["", "a", "b"]) {
                        stage.enqueue(org, job, key, count).await;
                        total += count;
                    }
                }
                super::limits::set_tenant(&stage, org, tenant).await;
                let mut ended = 0;
                while ended < total {
                    let mut has = Vec::new();
                    drain(&stage, &worker, &mut has).await;
                    assert_eq!(stage.count(super::limits::EXCEEDED).await, 0);
                    assert!(!has.is_empty(), "{ended} of {total} ended and nothing runs");
                    ended += has.len();
                    worker.renew().await.unwrap();
                    worker.finish_all(&has, Outcome::Completed).await;
                }
                assert_eq!(stage.count(super::limits::WRONG).await, 0);
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_nobody_heard_is_made_again_and_another_replica_takes_over() {
    let stage = Stage::with_replicas(2, Timing::default()).await;
    let org = OrgId::new();
    let job = stage.job(org, PLAIN).await;
    stage.enqueue(org, job, "", 3).await;
    let worker = stage.worker().await;
    let mut feed = worker.bus.offers("default");
    let first = tokio::time::timeout(PATIENCE, feed.next(10)).await.unwrap();
    assert!(!first.is_empty());
    // It is forgotten, and so is who offers.
    stage.execute("DELETE FROM scheduler.dispatchers").await;
    let mut seen = std::collections::BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    while seen.len() < 3 {
        assert!(
            Instant::now() < until,
            "not all are offered again: {seen:?}"
        );
        let more = tokio::time::timeout(Duration::from_millis(200), feed.next(10)).await;
        let more = more.unwrap_or_default();
        seen.extend(more.into_iter().map(|offer| offer.id));
    }
    let holders = "SELECT count(*) FROM scheduler.dispatchers WHERE held_until > now()";
    assert_eq!(stage.count(holders).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_late_does_not_wait_behind_everything_that_another_has_queued() {
    let stage = Stage::new(Timing::default()).await;
    let (early, late) = (OrgId::new(), OrgId::new());
    let (job, theirs) = (stage.job(early, PLAIN).await, stage.job(late, PLAIN).await);
    stage.enqueue(early, job, "", 3_000).await;
    let worker = stage.worker().await;
    let mut feed = worker.bus.offers("default");
    let take = async |feed: &mut bus::work::OfferFeed| {
        let offers = feed.next(20).await;
        let granted = worker.claim(&offers).await;
        let places: Vec<Place> = granted.iter().map(|granted| granted.place).collect();
        worker.finish_all(&places, Outcome::Completed).await;
        places
    };
    for _ in 0..10 {
        take(&mut feed).await;
    }
    stage.enqueue(late, theirs, "", 10).await;
    let (mut before, mut found) = (0, 0);
    while found < 10 {
        for place in take(&mut feed).await {
            match place.org == late {
                true => found += 1,
                false => before += 1,
            }
        }
        assert!(before < 2_000, "{found} of ten after {before} of the other");
    }
    println!("ten of the late one among {before} of the early one");
}

#[tokio::test]
async fn what_is_to_run_at_a_time_is_offered_then_and_not_before() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let job = stage.job(org, PLAIN).await;
    let offers = stage.enqueue(org, job, "", 1).await;
    let began = Instant::now();
    stage
        .execute("UPDATE scheduler.waiting SET due = false, run_at = now() + interval '1500 ms'")
        .await;
    let worker = stage.worker().await;
    assert_eq!(worker.claim(&offers).await, [], "it is not due");
    let mut feed = worker.bus.offers("default");
    // It may have been offered before it was put off: the claim decides.
    loop {
        let offered = tokio::time::timeout(PATIENCE, feed.next(1)).await.unwrap();
        assert_eq!(offered, offers);
        if !worker.claim(&offered).await.is_empty() {
            break;
        }
    }
    assert!(began.elapsed() >= Duration::from_millis(1_500));
}

//! What waits is offered, and nothing that may not begin for long.

use std::time::Duration;

use dashfleet_scheduler::config::Timing;
use domain::OrgId;
use domain::execution::Outcome;
use tokio::time::Instant;

use super::stage::{PATIENCE, PLAIN, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_nobody_heard_is_made_again_and_another_replica_takes_over() {
    let stage = Stage::with_replicas(2, Timing::default()).await;
    stage.waiting(PLAIN, 3).await;
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
        let places = worker.places(&offers).await;
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
    let offers = stage.waiting(PLAIN, 1).await;
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

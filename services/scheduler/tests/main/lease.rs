//! Workers that die, stand still, or come back.

use std::time::Duration;

use contract::run::{FinishVerdict, Place, RunProgress};
use dashfleet_scheduler::config::Timing;
use domain::execution::Outcome;
use serde_json::json;

use super::stage::{PATIENCE, PLAIN, Sort, Stage, Worker};

/// A tenth of the real times.
const QUICK: Timing = Timing {
    lease: Duration::from_secs(1),
    reap_every: Duration::from_millis(100),
    stall: Duration::from_millis(700),
    look_every: Duration::from_millis(100),
    offer_again: Duration::from_millis(300),
};

#[tokio::test]
async fn what_a_lost_worker_had_begins_again_and_what_it_says_later_is_fenced() {
    let stage = Stage::with_replicas(2, QUICK).await;
    let offers = stage.waiting(PLAIN, 5).await;
    let lost = stage.worker().await;
    let had = lost.places(&offers).await;
    assert_eq!(had.len(), 5);
    testkit::eventually("its session is over", PATIENCE, || async {
        (stage
            .count("SELECT count(*) FROM scheduler.waiting WHERE due")
            .await
            == 5)
            .then_some(())
    })
    .await;
    assert!(lost.renew().await.is_err());
    assert!(
        lost.try_claim(&offers).await.is_err(),
        "nothing more is given to it"
    );
    for place in &had {
        assert_eq!(
            lost.finish(*place, Outcome::Completed).await,
            FinishVerdict::Fenced
        );
    }
    assert_eq!(stage.rows("ended").await, 0, "it changed nothing");
    let again = stage.worker().await.claim(&offers).await;
    assert_eq!(again.len(), 5);
    assert!(
        again
            .iter()
            .all(|granted| granted.place.attempt == 2 && granted.concluded == 0)
    );
    for place in &had {
        assert_eq!(
            lost.finish(*place, Outcome::Completed).await,
            FinishVerdict::Fenced
        );
    }
    assert_eq!(stage.rows("running").await, 5);
}

#[tokio::test]
async fn whoever_renews_keeps_what_it_has() {
    let stage = Stage::new(QUICK).await;
    let (worker, places) = stage.running(PLAIN, 1).await;
    for _ in 0..15 {
        tokio::time::sleep(QUICK.lease / 5).await;
        worker.renew().await.unwrap();
    }
    worker.conclude(places[0], Outcome::Completed).await;
}

#[tokio::test]
async fn progress_of_what_somebody_holds_is_missed_and_the_lease_is_renewed_all_the_same() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 2).await;
    let words = |step: i32| {
        let word = |place: &Place| RunProgress {
            place: *place,
            progress: json!(step),
        };
        places.iter().map(word).collect::<Vec<_>>()
    };
    let written = async |step: i32| {
        let sql = format!("SELECT count(*) FROM scheduler.running WHERE progress = '{step}'");
        stage.count(&sql).await
    };
    let mut holder = stage.pools.system_tx().await.unwrap();
    sqlx::query("SELECT id FROM scheduler.running WHERE id = $1 FOR UPDATE")
        .bind(places[0].id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    // It is let go only after the answer.
    let lease = worker.renew_with(words(1)).await.unwrap();
    assert!(lease.progress_missed);
    assert_eq!(written(1).await, 1, "the other is written");
    holder.commit().await.unwrap();
    let lease = worker.renew_with(words(2)).await.unwrap();
    assert!(!lease.progress_missed);
    assert_eq!(written(2).await, 2);
    // Nobody wants to hear again of what is over.
    worker.finish(places[0], Outcome::Completed).await;
    let lease = worker.renew_with(words(3)).await.unwrap();
    assert!(!lease.progress_missed);
    assert_eq!(written(3).await, 1);
}

#[tokio::test]
async fn what_brings_workers_down_is_given_up() {
    let stage = Stage::new(QUICK).await;
    let offer = stage.waiting(PLAIN, 1).await[0];
    let (mut before, mut last) = (None, None);
    for losses in 1..=3 {
        let bus = stage.nats.bus("worker-default").await;
        // Each worker is the one before, which says that it was lost.
        let worker = Worker::begin(bus, before).await;
        if losses > 1 {
            assert_eq!(stage.state(offer.id).await, "waiting");
        }
        let place = worker.place(offer).await;
        assert_eq!(place.attempt, losses);
        (before, last) = (Some(worker.session), Some(place));
    }
    let bus = stage.nats.bus("worker-default").await;
    let worker = Worker::begin(bus, before).await;
    assert_eq!(stage.state(offer.id).await, "FAILED");
    // Nobody had said how the last attempt ended, and nobody can any more.
    assert_eq!(
        worker.finish(last.unwrap(), Outcome::Failed).await,
        FinishVerdict::Fenced
    );
    let error = stage
        .text("SELECT error ->> 'message' FROM scheduler.ended WHERE dead_letter")
        .await;
    assert!(error.unwrap().contains("the worker was lost"));
}

#[tokio::test]
async fn what_a_session_had_at_its_end_is_fenced_and_what_was_said_before_is_known() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(Sort::with_retries(1), 5).await;
    // Said: one waits again, one was handed back, one has ended. Of the others one is cancelled, and nobody says how they ended.
    let said = [
        (places[0], Outcome::Failed),
        (places[1], Outcome::HandedBack),
        (places[2], Outcome::Completed),
    ];
    for (place, outcome) in said {
        worker.conclude(place, outcome).await;
    }
    let cancel = format!(
        "UPDATE scheduler.running SET cancel_requested_at = now() WHERE id = '{}'",
        places[4].id
    );
    stage.execute(&cancel).await;
    worker.end().await;
    assert_eq!(stage.state(places[3].id).await, "waiting");
    assert_eq!(stage.state(places[4].id).await, "CANCELLED");
    for (place, outcome) in said {
        let verdict = worker.finish(place, outcome).await;
        assert_eq!(verdict, FinishVerdict::Duplicate, "{outcome:?}");
    }
    for place in &places[3..] {
        for outcome in [Outcome::Completed, Outcome::Cancelled, Outcome::HandedBack] {
            let verdict = worker.finish(*place, outcome).await;
            assert_eq!(verdict, FinishVerdict::Fenced, "{outcome:?}");
        }
    }
    assert_eq!(stage.state(places[3].id).await, "waiting");
    assert_eq!(stage.state(places[4].id).await, "CANCELLED");
}

#[tokio::test]
async fn when_nobody_could_look_every_worker_has_a_whole_lease_more() {
    let stage = Stage::new(QUICK).await;
    let (worker, places) = stage.running(PLAIN, 1).await;
    // As if everything had stood still for a minute.
    let mut tx = stage.pools.system_tx().await.unwrap();
    for sql in [
        "UPDATE scheduler.ticks SET at = now() - interval '60 s' WHERE name = 'reap'",
        "UPDATE scheduler.sessions SET expires_at = now() - interval '50 s'",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    testkit::eventually("somebody looks", PATIENCE, || async {
        (stage
            .count("SELECT count(*) FROM scheduler.ticks WHERE at > now() - interval '1 s'")
            .await
            == 1)
            .then_some(())
    })
    .await;
    assert_eq!(stage.state(places[0].id).await, "running");
    worker.renew().await.unwrap();
    worker.conclude(places[0], Outcome::Completed).await;
}

#[tokio::test]
async fn a_worker_hears_what_was_cancelled_and_what_it_then_says_is_that() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 2).await;
    stage
        .execute("UPDATE scheduler.running SET cancel_requested_at = now()")
        .await;
    assert_eq!(worker.renew().await.unwrap().cancelled.len(), 2);
    worker.finish(places[0], Outcome::Cancelled).await;
    // It was done before it heard of it.
    worker.finish(places[1], Outcome::Completed).await;
    assert_eq!(stage.state(places[0].id).await, "CANCELLED");
    assert_eq!(stage.state(places[1].id).await, "COMPLETED");
}

#[tokio::test]
async fn another_pool_has_no_part_in_a_session() {
    let stage = Stage::new(Timing::default()).await;
    let worker = stage.worker().await;
    stage
        .execute("UPDATE scheduler.sessions SET pool = 'other'")
        .await;
    assert!(worker.renew().await.is_err());
    worker.end().await;
    assert_eq!(stage.rows("sessions").await, 1);
}

#[tokio::test]
async fn a_worker_that_asks_is_told_what_it_has_had_for_longer_than_a_lease() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 2).await;
    assert_eq!(worker.given().await, []);
    let other = stage.worker().await;
    stage
        .execute(&format!(
            "UPDATE scheduler.running SET started_at = now() - interval '11 s' WHERE id = '{}'",
            places[1].id
        ))
        .await;
    let given = worker.given().await;
    assert_eq!(given.len(), 1);
    assert_eq!((given[0].org, given[0].id), (places[1].org, places[1].id));
    assert_eq!(other.given().await, []);
}

//! The claim is the grant, and the finish is fenced.

use contract::run::{FinishVerdict, Place, RunFinish};
use dashfleet_scheduler::config::Timing;
use domain::execution::Outcome;
use futures::future::join_all;
use uuid::Uuid;

use super::stage::{PATIENCE, PLAIN, STANDS, Sort, Stage, finish, next_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_execution_is_granted_to_one_worker_however_many_claim_it() {
    let stage = Stage::with_replicas(2, Timing::default()).await;
    let offers = stage.waiting(PLAIN, 40).await;
    let mut workers = Vec::new();
    for _ in 0..6 {
        workers.push(stage.worker().await);
    }
    let granted = join_all(workers.iter().map(|worker| worker.claim(&offers))).await;
    let mut ids: Vec<Uuid> = granted
        .iter()
        .flatten()
        .map(|assignment| assignment.place.id.0)
        .collect();
    ids.sort_unstable();
    let mut all: Vec<Uuid> = offers.iter().map(|offer| offer.id.0).collect();
    all.sort_unstable();
    assert_eq!(ids, all, "each once");
    assert!(
        granted
            .iter()
            .flatten()
            .all(|assignment| assignment.place.attempt == 1)
    );
}

/// Many are cancelled in one transaction; others' claims are in one statement with those of whoever is cancelled.
#[tokio::test]
async fn a_claim_leaves_what_is_being_cancelled_and_waits_for_nobody() {
    let stage = Stage::new(Timing::default()).await;
    let offers = stage.waiting(PLAIN, 2).await;
    let worker = stage.worker().await;
    let mut cancelling = stage.pools.system_tx().await.unwrap();
    sqlx::query("SELECT FROM scheduler.waiting WHERE id = $1 FOR UPDATE")
        .bind(offers[0].id.0)
        .execute(&mut *cancelling)
        .await
        .unwrap();
    let given = worker.places(&offers).await;
    assert_eq!((given.len(), given[0].id), (1, offers[1].id));
    drop(cancelling);
    testkit::eventually("the other begins, too", PATIENCE, || async {
        (worker.places(&offers).await.len() == 2).then_some(())
    })
    .await;
}

/// A claim waits where somebody sets a limit. Who comes meanwhile and had nothing offered waits for neither.
#[tokio::test]
async fn who_had_nothing_offered_waits_for_nobodys_claim() {
    let stage = Stage::new(Timing::default()).await;
    let [mut held, ours] = [
        stage.waiting(PLAIN, 1).await[0],
        stage.waiting(PLAIN, 1).await[0],
    ];
    held.turn = 1;
    let worker = stage.worker().await;
    let mut limiting = stage.pools.system_tx().await.unwrap();
    sqlx::query("SELECT FROM scheduler.tenants WHERE org_id = $1 FOR UPDATE")
        .bind(held.org.0)
        .execute(&mut *limiting)
        .await
        .unwrap();
    let ours = async {
        testkit::eventually("the other claim waits", PATIENCE, || async {
            (stage.count(STANDS).await > 0).then_some(())
        })
        .await;
        let place = worker.place(ours).await;
        assert_eq!(stage.state(held.id).await, "waiting");
        limiting.commit().await.unwrap();
        place
    };
    let (place, of_held) = tokio::join!(ours, worker.place(held));
    assert_eq!((place.attempt, of_held.attempt), (1, 1));
}

#[tokio::test]
async fn a_claim_that_is_repeated_gives_the_same_again_and_to_nobody_else() {
    let stage = Stage::new(Timing::default()).await;
    let offers = stage.waiting(PLAIN, 3).await;
    let (one, other) = (stage.worker().await, stage.worker().await);
    let first = one.claim(&offers).await;
    assert_eq!(first.len(), 3);
    assert_eq!(one.claim(&offers).await, first, "the same tokens");
    assert_eq!(other.claim(&offers).await, []);
}

#[tokio::test]
async fn an_end_counts_once_and_only_of_the_attempt_that_runs() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 1).await;
    let place = places[0];
    let forged = Place {
        token: Uuid::new_v4(),
        ..place
    };
    let other = Place {
        attempt: 2,
        ..place
    };
    assert_eq!(
        worker.finish(forged, Outcome::Completed).await,
        FinishVerdict::Fenced
    );
    assert_eq!(
        worker.finish(other, Outcome::Completed).await,
        FinishVerdict::Fenced
    );
    assert_eq!(stage.state(place.id).await, "running");
    worker.conclude(place, Outcome::Completed).await;
    assert_eq!(
        worker.finish(place, Outcome::Completed).await,
        FinishVerdict::Duplicate
    );
    // What was said first holds.
    assert_eq!(
        worker.finish(place, Outcome::Failed).await,
        FinishVerdict::Duplicate
    );
    assert_eq!(
        worker.finish(forged, Outcome::Failed).await,
        FinishVerdict::Fenced
    );
    assert_eq!(stage.state(place.id).await, "COMPLETED");
    let result = stage.text("SELECT result::text FROM scheduler.ended").await;
    assert_eq!(result.as_deref(), Some(r#"{"done": true}"#));
}

#[tokio::test]
async fn what_fails_is_tried_as_often_as_its_job_says_and_then_is_a_dead_letter() {
    let stage = Stage::new(Timing::default()).await;
    let offers = stage.waiting(Sort::with_retries(2), 1).await;
    let worker = stage.worker().await;
    for attempt in 1..=3 {
        let granted = worker.claim(&offers).await;
        assert_eq!(granted[0].place.attempt, attempt);
        // What one did whose time was up nobody knows.
        assert_eq!(granted[0].concluded, [0, 1, 1][attempt as usize - 1]);
        let outcome = match attempt {
            2 => Outcome::Timeout,
            _ => Outcome::Failed,
        };
        worker.conclude(granted[0].place, outcome).await;
    }
    assert_eq!(stage.state(offers[0].id).await, "FAILED");
    let dead =
        "SELECT count(*) FROM scheduler.ended WHERE dead_letter AND attempt = 3 AND failures = 3";
    assert_eq!(stage.count(dead).await, 1);
    let attempts = stage
        .text("SELECT attempts::text FROM scheduler.ended")
        .await
        .unwrap();
    let attempts: Vec<contract::execution::Attempt> = serde_json::from_str(&attempts).unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Timeout]);
    assert_eq!(
        attempts[0].error.as_ref().unwrap().message,
        "it did not work"
    );
}

#[tokio::test]
async fn the_time_between_attempts_doubles_and_what_failed_together_comes_back_apart() {
    let stage = Stage::new(Timing::default()).await;
    let sort = Sort {
        backoff_ms: 100_000,
        ..Sort::with_retries(10)
    };
    let offers = stage.waiting(sort, 20).await;
    stage
        .execute("UPDATE scheduler.waiting SET failures = 2")
        .await;
    let worker = stage.worker().await;
    let places = worker.places(&offers).await;
    worker.finish_all(&places, Outcome::Failed).await;
    let within = "SELECT count(*) FROM scheduler.waiting
        WHERE NOT due AND run_at BETWEEN now() + interval '295 s' AND now() + interval '401 s'";
    assert_eq!(
        stage.count(within).await,
        20,
        "400 s less a quarter at most"
    );
    let spread =
        "SELECT extract(epoch FROM max(run_at) - min(run_at))::bigint FROM scheduler.waiting";
    assert!(stage.count(spread).await > 20);
}

#[tokio::test]
async fn what_is_handed_back_begins_again_and_uses_up_no_attempt() {
    let stage = Stage::new(Timing::default()).await;
    let offers = stage.waiting(PLAIN, 2).await;
    let worker = stage.worker().await;
    let places = worker.places(&offers).await;
    worker.conclude(places[0], Outcome::HandedBack).await;
    worker.end().await;
    assert!(worker.renew().await.is_err());
    let back = "SELECT count(*) FROM scheduler.waiting WHERE due AND attempt = 1 AND failures = 0 AND losses = 0 AND concluded = 0";
    assert_eq!(stage.count(back).await, 2);
    let again = stage.worker().await.claim(&offers).await;
    assert!(
        again
            .iter()
            .all(|granted| granted.place.attempt == 2 && granted.concluded == 0)
    );
    assert_eq!(again.len(), 2);
}

#[tokio::test]
async fn each_end_of_an_execution_is_an_event_and_no_retry_is() {
    let stage = Stage::new(Timing::default()).await;
    let mut events = stage.listen("df.evt.>").await;
    let offer = stage.waiting(Sort::with_retries(1), 1).await[0];
    let worker = stage.worker().await;
    for _ in 0..2 {
        let place = worker.place(offer).await;
        worker.finish(place, Outcome::Failed).await;
    }
    let event = next_of(&mut events).await;
    assert!(
        event.subject.ends_with(".execution.failed"),
        "{}",
        event.subject
    );
    let event: contract::Envelope<contract::event::Event> =
        serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event.body.subject_id, offer.id.0);
    assert_eq!(event.body.data["attempt"], 2);
    assert_eq!(event.body.data["deadLetter"], true);
    testkit::eventually("the outbox is empty", PATIENCE, || async {
        (stage.rows("outbox").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_no_column_takes_ends_its_own_execution_alone() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, places) = stage.running(PLAIN, 2).await;
    let completed = |place: &Place| finish(*place, Outcome::Completed);
    let mut items: Vec<_> = places.iter().map(completed).collect();
    items[0].result = Some(serde_json::json!({ "nul": "a\u{0}b" }));
    items[1].result = Some(serde_json::json!("x".repeat(70_000)));
    let said = RunFinish { items };
    let answer = worker.bus.service_call(&said, None, PATIENCE).await;
    assert_eq!(answer.unwrap().verdicts, [FinishVerdict::Applied; 2]);
    assert_eq!(stage.state(places[0].id).await, "COMPLETED");
    assert_eq!(
        stage.state(places[1].id).await,
        "FAILED",
        "too long to be kept, and would be again"
    );
}

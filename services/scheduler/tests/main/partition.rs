//! What ended has a partition for each day, made ahead by the database's clock. An execution whose day has none (a replica's
//! clock is days from the database's) ends all the same.

use contract::ProblemKind;
use contract::execution::ExecutionCancel;
use contract::run::{FinishVerdict, LogChunk, Offer, Place, RunLog};
use dashfleet_scheduler::config::Timing;
use domain::ExecutionId;
use domain::execution::{ExecutionStatus, Outcome};
use sqlx::PgPool;
use uuid::Uuid;

use super::stage::{PATIENCE, PLAIN, Stage, Worker};
use super::world::{World, refused};

const MOVE: &str = "UPDATE scheduler.waiting SET id = $2 WHERE id = $1";

/// As if the replica that made it had a clock so many days ahead.
async fn days_ahead(system: &PgPool, id: ExecutionId, days: u128) -> ExecutionId {
    let moved = Uuid::from_u128(id.0.as_u128() + ((days * 86_400_000) << 80));
    let done = sqlx::query(MOVE).bind(id.0).bind(moved).execute(system);
    assert_eq!(done.await.unwrap().rows_affected(), 1);
    ExecutionId(moved)
}

/// A worker, and what it has begun of a clock so many days ahead.
async fn begun(stage: &Stage, days: u128) -> (Worker, Place) {
    let offer = stage.waiting(PLAIN, 1).await[0];
    let id = days_ahead(stage.pools.system(), offer.id, days).await;
    let worker = stage.worker().await;
    let place = worker.place(Offer { id, ..offer }).await;
    (worker, place)
}

#[tokio::test]
async fn an_end_is_committed_whatever_a_clock_said() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, place) = begun(&stage, 40).await;
    assert_eq!(
        worker.finish(place, Outcome::Completed).await,
        FinishVerdict::Retry
    );
    testkit::eventually("the end is committed", PATIENCE, || async {
        let verdict = worker.finish(place, Outcome::Completed).await;
        (verdict != FinishVerdict::Retry).then(|| assert_eq!(verdict, FinishVerdict::Applied))
    })
    .await;
    assert_eq!(stage.state(place.id).await, "COMPLETED");
}

#[tokio::test]
async fn what_a_handler_logs_is_kept_there_too() {
    let stage = Stage::new(Timing::default()).await;
    let (worker, place) = begun(&stage, 40).await;
    let log = RunLog {
        items: vec![LogChunk {
            place,
            first: 0,
            lines: vec!["a line".into()],
        }],
    };
    let problem = worker.bus.service_call(&log, None, PATIENCE).await;
    assert_eq!(refused(problem).0, ProblemKind::Unavailable);
    testkit::eventually("the line is kept", PATIENCE, || async {
        worker.bus.service_call(&log, None, PATIENCE).await.ok()
    })
    .await;
    assert_eq!(stage.rows("log_chunks").await, 1);
}

#[tokio::test]
async fn what_a_lost_worker_had_ends_there_too() {
    let stage = Stage::new(Timing::default()).await;
    let (_worker, place) = begun(&stage, 40).await;
    stage
        .execute("UPDATE scheduler.running SET losses = 2")
        .await;
    testkit::eventually("the third loss is the end", PATIENCE, || async {
        stage.expire_sessions().await;
        (stage.state(place.id).await == "FAILED").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_cancelled_ends_there_too() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    let id = days_ahead(world.pools.system(), id, 40).await;
    let cancel = ExecutionCancel { execution_id: id };
    assert_eq!(
        refused(world.ask(&cancel).await).0,
        ProblemKind::Unavailable
    );
    let cancelled = testkit::eventually("it is cancelled", PATIENCE, || async {
        world.ask(&cancel).await.ok()
    })
    .await;
    assert_eq!(cancelled.status, ExecutionStatus::Cancelled);
    assert_eq!(world.status(id).await, ExecutionStatus::Cancelled);
}

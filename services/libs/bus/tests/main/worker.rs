//! A worker's connection: what it says comes as its pool's, and the answer goes into its pool's inbox.

use std::time::Duration;

use bus::{Caller, Context, Service};
use contract::run::{RunEnd, RunEnded};
use contract::work::pool_of;
use contract::{Problem, ProblemKind};
use testkit::Nats;
use uuid::Uuid;

#[tokio::test]
async fn a_worker_is_heard_as_its_pools_and_answered() {
    let nats = Nats::start().await;
    let scheduler = nats.bus("scheduler").await;
    let worker = nats.bus("worker-default").await;
    let service = Service::start(&scheduler, "scheduler", None).await.unwrap();
    let answer = |context: Context, _: RunEnd| async move {
        match &context.caller {
            Caller::Service(name) if pool_of(name) == Some("default") => Ok(RunEnded {}),
            other => Err(Problem::new(ProblemKind::Forbidden, format!("{other:?}"))),
        }
    };
    service.answer(answer).await.unwrap();
    scheduler.settled().await;
    let asked = RunEnd {
        session_id: Uuid::new_v4(),
    };
    let answered = worker.service_call(&asked, None, Duration::from_secs(5));
    assert_eq!(answered.await, Ok(RunEnded {}));
    service.stop().await;
}

#[tokio::test]
async fn streams_and_consumers_may_be_made_again() {
    let nats = Nats::start().await;
    let bootstrap = nats.bus("bootstrap").await;
    // A pool that is added later, and once more: what was there stays.
    for pools in ["default", "default,gpu", "default,gpu"] {
        let pools = domain::job::pools(pools).unwrap();
        bootstrap.ensure_streams(1, &pools).await.unwrap();
    }
}

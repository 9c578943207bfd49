//! Pools: what waits for the workers of one is nothing to another's.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::run::Offer;
use dashfleet_scheduler::config::Timing;
use domain::{ExecutionId, OrgId};

use super::stage::{PATIENCE, PLAIN, Stage, Worker};

/// So many wait in each pool: fewer than a worker has slots.
const COUNT: usize = 3;

/// What a worker is offered of its pool, until it has heard of so many.
async fn offered(worker: &Worker, pool: &str) -> BTreeSet<ExecutionId> {
    let mut feed = worker.bus.offers(pool);
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < COUNT {
            seen.extend(feed.next(64).await.into_iter().map(|offer| offer.id));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    seen
}

fn ids(offers: &[Offer]) -> BTreeSet<ExecutionId> {
    offers.iter().map(|offer| offer.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_pool_reaches_its_workers_and_no_others() {
    let stage = Stage::with_pools("default,gpu", 1, Timing::default()).await;
    let org = OrgId::new();
    let job = stage.job(org, PLAIN).await;
    let (plain, gpu) = (
        stage.worker_of("default").await,
        stage.worker_of("gpu").await,
    );
    let of_plain = stage.enqueue_in("default", org, job, "", COUNT).await;
    let of_gpu = stage.enqueue_in("gpu", org, job, "", COUNT).await;

    // Nobody else asks for them yet, and what is offered is offered again in that time.
    for (thief, pool) in [(&plain, "gpu"), (&gpu, "default")] {
        let mut feed = thief.bus.offers(pool);
        let stolen = tokio::time::timeout(Duration::from_secs(3), feed.next(64)).await;
        assert!(stolen.is_err(), "offers to {pool}: {stolen:?}");
        plain.renew().await.unwrap();
        gpu.renew().await.unwrap();
    }
    assert_eq!(offered(&plain, "default").await, ids(&of_plain));
    assert_eq!(offered(&gpu, "gpu").await, ids(&of_gpu));

    // Whoever knows of another pool's all the same is given nothing.
    assert!(plain.claim(&of_gpu).await.is_empty());
    assert!(gpu.claim(&of_plain).await.is_empty());
    assert_eq!(gpu.claim(&of_gpu).await.len(), COUNT);
    // Nor with another pool's session, were its name known: neither what waits for it nor what it has.
    let posing = Worker {
        bus: plain.bus.clone(),
        session: gpu.session,
    };
    assert!(posing.claim(&of_plain).await.is_empty());
    assert!(posing.claim(&of_gpu).await.is_empty());
    assert_eq!(plain.claim(&of_plain).await.len(), COUNT);
}

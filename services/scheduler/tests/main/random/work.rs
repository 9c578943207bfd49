//! A worker with so many slots: it claims for those that are free, gives back what it has none for, and finishes each by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::run::{FinishVerdict, Offer, Place, RunClaim, RunClaimed};
use domain::execution::Outcome;
use domain::{ExecutionId, JobId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::main::stage::{PATIENCE, Worker};

const RENEW_EVERY: Duration = Duration::from_secs(1);
/// For how long it waits for offers before it looks around.
const WAIT: Duration = Duration::from_millis(50);

/// Works until it is over; handlers of a job take so long.
pub async fn work(
    worker: Worker,
    slots: usize,
    takes: Arc<HashMap<JobId, Duration>>,
    over: Arc<AtomicBool>,
) {
    let mut feed = worker.bus.offers("default");
    let mut handlers: JoinSet<ExecutionId> = JoinSet::new();
    let mut held = HashSet::new();
    let mut renewed = Instant::now();
    while !over.load(Ordering::Relaxed) {
        if renewed.elapsed() >= RENEW_EVERY {
            renewed = Instant::now();
            worker.renew().await.unwrap();
        }
        while let Some(ended) = handlers.try_join_next() {
            held.remove(&ended.unwrap());
        }
        let free = slots - handlers.len();
        if free == 0 {
            // Others may have what came meanwhile.
            feed.pause().await;
            if let Some(ended) = handlers.join_next().await {
                held.remove(&ended.unwrap());
            }
            continue;
        }
        tokio::select! {
            Some(ended) = handlers.join_next() => {
                held.remove(&ended.unwrap());
            }
            offers = feed.next(free) => {
                let granted = claim(&worker, offers, [free, slots], &held, &takes).await;
                for (place, takes) in granted {
                    held.insert(place.id);
                    handlers.spawn(handle(worker.clone(), place, takes));
                }
            }
            () = tokio::time::sleep(WAIT) => {}
        }
    }
    while let Some(ended) = handlers.join_next().await {
        ended.unwrap();
    }
    worker.end().await;
}

/// What may begin here, and how long it takes.
async fn claim(
    worker: &Worker,
    mut offers: Vec<Offer>,
    [free, slots]: [usize; 2],
    held: &HashSet<ExecutionId>,
    takes: &HashMap<JobId, Duration>,
) -> Vec<(Place, Duration)> {
    // What it has would be given to it once more.
    let mut known = held.clone();
    offers.retain(|offer| known.insert(offer.id));
    offers.sort_by_key(|offer| offer.turn);
    let (asked, returned) = offers.split_at(free.min(offers.len()));
    let claim = RunClaim {
        session_id: worker.session,
        offers: asked.to_vec(),
        // Whichever slots are free next, there is something for them.
        want: slots as u32,
        returned: returned.iter().map(|offer| offer.id).collect(),
    };
    let answer = worker.bus.service_call(&claim, None, PATIENCE).await;
    let claimed: RunClaimed = answer.unwrap();
    let granted = claimed.granted.into_iter();
    granted
        .map(|granted| (granted.place, takes[&granted.job_id]))
        .collect()
}

async fn handle(worker: Worker, place: Place, takes: Duration) -> ExecutionId {
    tokio::time::sleep(takes).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let verdict = worker.finish(place, Outcome::Completed).await;
        if verdict != FinishVerdict::Retry {
            let known = [FinishVerdict::Applied, FinishVerdict::Duplicate];
            assert!(known.contains(&verdict), "{place:?}: {verdict:?}");
            return place.id;
        }
        assert!(Instant::now() < until, "{place:?} cannot be finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

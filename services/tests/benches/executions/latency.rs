//! From the POST's start until the owner says, after its commit, that the execution is COMPLETED: 100 a second, each
//! begun when its time has come, whether or not those before it have ended. One process's clock has both ends: the
//! owner's word comes over the bus (`df.live`), so that nobody has to ask for it, and its hop is part of the floor too.
//!
//! The floor takes turns with it, five seconds each, at the same pace, so that both see the same noise. It is what the
//! protocol needs: one HTTP round trip, three commits of one row, and six hops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use futures::StreamExt;
use serde_json::json;
use tokio::task::JoinSet;

use crate::floor::{self, Durable, Floor};
use crate::{job, text};

/// To the owner, who commits the execution; the offer; the claim, which is committed; what may begin; the finish, which
/// is committed; the owner's word that it has ended.
const HOPS: [Durable; 6] = [
    Durable::of(1, 0),
    Durable::of(0, 0),
    Durable::of(1, 0),
    Durable::of(0, 0),
    Durable::of(1, 0),
    Durable::of(0, 0),
];

const PERIOD: Duration = Duration::from_millis(10);
const OF_A_TURN: usize = 500;
const TURNS: usize = 4;
/// In a turn before them, which is not counted.
const WARM_UP: usize = 200;
/// What is not heard of by then counts as if it had taken so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long they took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    pub p50: f64,
    pub p99: f64,
    pub floor_p50: f64,
    pub floor_p99: f64,
}

/// When each execution's end was said, by its id.
type Heard = Arc<Mutex<HashMap<String, Instant>>>;

pub async fn measure(product: &Product) -> Paced {
    let api = product.api();
    let job = job(&api, "paced").await;
    let onlooker = floor::connect(product, "gateway").await;
    let mut floor = Floor::new(product, &onlooker).await;
    let mut live = onlooker
        .subscribe("df.live.*.execution.*")
        .await
        .expect("a subscription");
    let heard = Heard::default();
    let hears = heard.clone();
    let listener = tokio::spawn(async move {
        while let Some(message) = live.next().await {
            let at = Instant::now();
            if String::from_utf8_lossy(&message.payload).contains("\"COMPLETED\"") {
                let id = message.subject.rsplit('.').next().unwrap_or_default();
                locked(&hears).insert(id.to_owned(), at);
            }
        }
    });
    executions(&api, &job, WARM_UP, &heard).await;
    floors(&mut floor, 0, WARM_UP).await;
    let (mut ours, mut least) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        ours.extend(executions(&api, &job, OF_A_TURN, &heard).await);
        least.extend(floors(&mut floor, WARM_UP + turn * OF_A_TURN, OF_A_TURN).await);
    }
    listener.abort();
    Paced {
        p50: percentile(&mut ours, 50),
        p99: percentile(&mut ours, 99),
        floor_p50: percentile(&mut least, 50),
        floor_p99: percentile(&mut least, 99),
    }
}

fn locked(heard: &Heard) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many at the pace; how long each took.
async fn executions(api: &Api, job: &str, count: usize, heard: &Heard) -> Vec<Duration> {
    let path = format!("/api/v1/jobs/{job}/execute");
    let mut pace = tokio::time::interval(PERIOD);
    let mut posts = JoinSet::new();
    for _ in 0..count {
        pace.tick().await;
        let (api, path) = (api.clone(), path.clone());
        posts.spawn(async move {
            let begun = Instant::now();
            let (status, body) = api.post(&path, json!({})).await;
            assert_eq!(status, 202, "{body}");
            (text(&body["executionId"]).replace('-', ""), begun)
        });
    }
    let begun = posts.join_all().await;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !begun.iter().all(|(id, _)| locked(heard).contains_key(id)) {
        tokio::time::sleep(PERIOD).await;
    }
    let mut heard = locked(heard);
    let took: Vec<_> = begun
        .into_iter()
        .map(|(id, begun)| heard.remove(&id).map(|ended| ended - begun))
        .collect();
    let missing = took.iter().filter(|took| took.is_none()).count();
    if missing > 0 {
        println!("{missing} of {count} executions were not heard of");
    }
    took.into_iter()
        .map(|took| took.unwrap_or(PATIENCE))
        .collect()
}

/// So many sequences at the pace, from this number on.
async fn floors(floor: &mut Floor, from: usize, count: usize) -> Vec<Duration> {
    let mut pace = tokio::time::interval(PERIOD);
    let mut took = Vec::with_capacity(count);
    for place in from..from + count {
        pace.tick().await;
        took.push(floor.measure(place, &HOPS).await);
    }
    took
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}

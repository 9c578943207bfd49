//! Latency of `ping` actions, one at a time, from the POST's start to the committed result, beside the floor of
//! this box (see `floor`), measured in the same run: each ping is followed by one floor sequence, so that both see the
//! same noise. Then, from traces, where the time goes (see `profile`).

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use futures::StreamExt;
use serde_json::json;

#[path = "latency/floor.rs"]
mod floor;
#[path = "latency/profile.rs"]
mod profile;

use floor::{Durable, Floor};

const ACTIONS: usize = 200;
const WARM_UP: usize = 20;
const RUNS: usize = 3;

/// The hops of one action: to the owner, who commits it; to the agent, whose journal has it before and after; its report,
/// which the owner commits; the owner's word that it has ended.
const HOPS: [Durable; 4] = [
    Durable::of(1, 0),
    Durable::of(0, 2),
    Durable::of(1, 0),
    Durable::of(0, 0),
];

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}

/// From the POST's start until the owner says, after its commit, that the action has ended.
async fn ping(api: &Api, machine: &str, live: &mut bus::Subscription) -> Duration {
    let start = Instant::now();
    let id = api
        .action(machine, "ping", json!({}))
        .await
        .replace('-', "");
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), live.next())
            .await
            .expect("a result")
            .expect("a message");
        if message.subject.ends_with(&id)
            && String::from_utf8_lossy(&message.payload).contains("\"SUCCEEDED\"")
        {
            return start.elapsed();
        }
    }
}

#[tokio::main]
async fn main() {
    let product = Product::start(1);
    let (api, machine) = (product.api(), product.machine());
    let onlooker = floor::connect(&product, "gateway").await;
    let mut live = onlooker
        .subscribe("df.live.*.action.*")
        .await
        .expect("a subscription");
    let mut floor = Floor::new(&product, &onlooker).await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (mut pings, mut floors) = (Vec::new(), Vec::new());
        for place in 0..WARM_UP + ACTIONS {
            let took = ping(&api, &machine, &mut live).await;
            let least = floor.measure(place, &HOPS).await;
            if place >= WARM_UP {
                pings.push(took);
                floors.push(least);
            }
        }
        let run = [
            percentile(&mut pings, 50),
            percentile(&mut pings, 99),
            percentile(&mut floors, 50),
            percentile(&mut floors, 99),
        ];
        println!(
            "ping p50 {:.2} ms, p99 {:.2} ms; floor p50 {:.2} ms, p99 {:.2} ms; p50 is {:.2} x floor",
            run[0],
            run[1],
            run[2],
            run[3],
            run[0] / run[2]
        );
        runs.push(run);
    }
    let median = |of: fn(&[f64; 4]) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "medians of {RUNS}: ping p50 {:.2} ms, p99 {:.2} ms, floor p50 {:.2} ms, ratio {:.2}",
        median(|run| run[0]),
        median(|run| run[1]),
        median(|run| run[2]),
        median(|run| run[0] / run[2])
    );
    drop(floor);
    drop(product);
    profile::print().await;
}

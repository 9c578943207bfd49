//! The ledger: 20,000 executions over two schedulers and three workers while everything is killed at random. Every one
//! ends, attempts never overlap in time, and the records say what the handlers wrote down. `DASHFLEET_LONG` kills for
//! three minutes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compare::{differences, is_given_up};
use dashfleet_tests::random::Random;
use dashfleet_tests::witness::{self, plain};
use dashfleet_tests::{Api, Product, Storm};
use jobs::{KINDS, Kind, Lasting, kind_of};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Folder, eventually};

mod compare;
mod jobs;
mod records;

const EXECUTIONS: &str = "/api/v1/executions";
const COUNT: usize = 20_000;
/// So many of them wait when the storm begins, asked for so many at a time.
const BACKLOG: usize = COUNT / 2;
const BACKLOG_BATCH: usize = 1_000;
/// The others are asked for in it, so many at a time.
const BATCH: usize = 200;
/// Twenty outlast a lease, of those that are asked for first: they end soon after the others.
const LASTING: Lasting = Lasting {
    of: 500,
    among: BACKLOG,
};
/// In the long form one of a hundred.
const LASTING_LONG: Lasting = Lasting {
    of: 100,
    among: COUNT,
};
/// All parts: also those that machines speak to, and the agent.
const VICTIMS: [&str; 9] = [
    "scheduler",
    "worker",
    "nats",
    "postgres",
    "gateway",
    "identity",
    "action",
    "metrics",
    "agent",
];
/// How long a batch may not be taken, since what it needs is killed again and again.
const TAKEN: Duration = Duration::from_secs(120);
/// How many of many are shown.
const SHOWN_MAX: usize = 20;

/// Asks for executions, again and again with the same key, until they are taken; their ids.
async fn ask(
    api: &Api,
    jobs: &[String],
    lasting: Lasting,
    first: usize,
    count: usize,
) -> Vec<String> {
    let items: Vec<Value> = (first..first + count)
        .map(|place| json!({ "jobId": jobs[kind_of(place, lasting)] }))
        .collect();
    let (body, key) = (json!({ "items": items }), format!("ledger-{first}"));
    let path = format!("{EXECUTIONS}/batch");
    eventually(&format!("batch {first} is taken"), TAKEN, || async {
        let headers = [("Idempotency-Key", key.as_str())];
        let asked = api.send(Method::POST, &path, &headers, Some(body.clone()));
        let (status, answer) = asked.await.ok()?;
        if status != 202 {
            assert!([429, 503].contains(&status.as_u16()), "{status} {answer}");
            return None;
        }
        let items = answer["items"].as_array().expect("items").iter();
        let ids = items.map(|item| item["id"].as_str().expect("an id").to_owned());
        Some(ids.collect::<Vec<String>>())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_execution_ends_and_its_record_is_what_the_witness_saw_whatever_is_killed() {
    let is_long = std::env::var_os("DASHFLEET_LONG").is_some();
    let time = Duration::from_secs(if is_long { 180 } else { 30 });
    let lasting = if is_long { LASTING_LONG } else { LASTING };
    let random = Random::announced("ledger");
    let folder = Folder::new("ledger");
    let file = folder.path().join("witness");
    let path = file.display().to_string();
    let environment = [
        ("DASHFLEET_WORKER_WITNESS", path.as_str()),
        ("DASHFLEET_WORKER_CONCURRENCY", "20"),
    ];
    let product = Arc::new(Product::start_as("1,scheduler=2,worker=3", &environment));
    assert_eq!(product.pids("scheduler").len(), 2);
    assert_eq!(product.pids("worker").len(), 3);
    let api = product.api();
    let jobs = jobs::make(&api).await;
    let mut asked: Vec<String> = Vec::with_capacity(COUNT);
    while asked.len() < BACKLOG {
        let ids = ask(&api, &jobs, lasting, asked.len(), BACKLOG_BATCH).await;
        asked.extend(ids);
    }

    let storm = Storm::begin(product.clone(), random, &VICTIMS, 500..2_500);
    let began = Instant::now();
    let over = async {
        tokio::time::sleep(time).await;
        storm.end().await
    };
    let more = async {
        while asked.len() < COUNT {
            let share = (asked.len() - BACKLOG) as f64 / (COUNT - BACKLOG) as f64;
            tokio::time::sleep(time.mul_f64(share).saturating_sub(began.elapsed())).await;
            let ids = ask(&api, &jobs, lasting, asked.len(), BATCH).await;
            asked.extend(ids);
        }
        began.elapsed()
    };
    let (killed, took) = tokio::join!(over, more);
    println!("killed {killed:?} in {time:?}; all were asked for after {took:?}");

    let records = records::ended(&api, || witness::read(&file)).await;
    println!("all had ended {:?} after the first kill", began.elapsed());
    let seen = witness::read(&file);
    records::told(&records, &seen);
    let kinds: HashMap<String, &Kind> = jobs.iter().map(|id| plain(id)).zip(&KINDS).collect();
    let found = differences(&asked, &records, &kinds, &seen);
    let shown = found.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>();
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        shown.join("\n")
    );
    // What lost its worker too often is given up, and that is rare.
    let given_up = records.iter().filter(|record| is_given_up(record)).count();
    assert!(given_up * 50 < COUNT, "{given_up} were given up");
}

//! A million executions that have ended and a hundred thousand that wait: claims in a second and pages of lists, beside the same
//! on a database without them. On the product with its default settings. (`fill` says what is filled in.)
//!
//! Claims: 10,000 executions of `builtin/noop` are asked for while their job is paused, then it goes on; counted is from the first
//! beginning to the last end, which are PostgreSQL's times. What waits besides is due, for the most part, and may not begin: the
//! dispatcher finds its lanes at each look around. Then, besides those, 100,000 that may begin, worked off to the last, each
//! tenth counted by itself.
//!
//! Lists: over HTTP, one after another. An empty list has nothing to show, so what the pages are compared with is a little history
//! of 10,000 ended and 1,000 waiting executions in the partitions that are there from the beginning: there each page is as full.
//!
//! Measured are the little history, then the whole one before anybody has looked at the tables (plans are as old as the programs),
//! and after autovacuum's work. Aim: within 1.2 times. `DASHFLEET_BENCH_RUNS=1` makes it shorter.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

#[path = "million/fill.rs"]
mod fill;
#[path = "million/lists.rs"]
mod lists;

const BATCH: usize = 10_000;
const QUEUED: usize = 100_000;
const RUNS: usize = 3;
/// How long 100,000 may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// After which the servers have written what they had in memory, for the most part.
const SETTLE: Duration = Duration::from_secs(15);
const JOBS: &str = "/api/v1/jobs";

/// Whether anything of a job waits or runs.
const OPEN: &str = "
    SELECT EXISTS (SELECT FROM scheduler.waiting WHERE job_id = $1)
        OR EXISTS (SELECT FROM scheduler.running WHERE job_id = $1)";
/// In a second, from the first beginning to the last end.
const RATE: &str = "
    SELECT (count(*) / extract(epoch FROM max(ended_at) - min(started_at)))::float8 FROM scheduler.ended
    WHERE org_id = $1 AND job_id = $2 AND status = 'COMPLETED'";
/// Of each tenth, in their order.
const TENTHS: &str = "
    SELECT (count(*) / extract(epoch FROM max(ended_at) - min(ended_at)))::float8 FROM (
        SELECT ended_at, ntile(10) OVER (ORDER BY ended_at) AS tenth FROM scheduler.ended
        WHERE org_id = $1 AND job_id = $2 AND status = 'COMPLETED') AS place
    GROUP BY tenth ORDER BY tenth";
/// What waits of all but one job.
const HELD: &str = "SELECT count(*) FROM scheduler.waiting WHERE job_id <> $1";

/// The organisation that is measured.
pub struct Bench {
    api: Api,
    org: Uuid,
    owner: PgConnection,
    runs: usize,
    jobs: usize,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Bench {
    async fn made(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.api.post(path, body).await;
        assert!(status.is_success(), "POST {path}: {status} {body}");
        body
    }

    /// Asks for so many executions of a new job, and lets them begin when all of them wait; the job, when all have ended.
    async fn drained(&mut self, count: usize) -> Uuid {
        self.jobs += 1;
        let job = json!({ "name": format!("drained {}", self.jobs), "handler": "builtin/noop", "retries": 0 });
        let job = text(&self.made(JOBS, job).await, "id");
        let path = format!("{JOBS}/{job}");
        self.made(&format!("{path}/pause"), json!({})).await;
        for _ in 0..count / BATCH {
            let items = vec![json!({ "jobId": job }); BATCH];
            let batch = json!({ "items": items });
            self.made("/api/v1/executions/batch", batch).await;
        }
        let id: Uuid = job.parse().expect("an id");
        let held = self.held(id).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.made(&format!("{path}/resume"), json!({})).await;
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let open: bool = sqlx::query_scalar(OPEN)
                .bind(id)
                .fetch_one(&mut self.owner)
                .await
                .expect("what is open");
            if !open {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "they do not end");
        }
        assert_eq!(self.held(id).await, held, "what may not begin still waits");
        id
    }

    async fn held(&mut self, job: Uuid) -> i64 {
        let held = sqlx::query_scalar(HELD).bind(job);
        held.fetch_one(&mut self.owner).await.expect("a count")
    }

    /// Claims in a second, of 10,000 that were drained.
    async fn claims(&mut self) -> f64 {
        let mut rates = Vec::new();
        for _ in 0..self.runs {
            let job = self.drained(BATCH).await;
            let rate: f64 = sqlx::query_scalar(RATE)
                .bind(self.org)
                .bind(job)
                .fetch_one(&mut self.owner)
                .await
                .expect("a rate");
            println!("  {rate:.0} claims in a second");
            rates.push(rate);
        }
        median(rates)
    }

    /// Claims in a second while as many as a hundred thousand wait that may begin, of each tenth of them.
    async fn tenths(&mut self) -> Vec<f64> {
        let job = self.drained(QUEUED).await;
        sqlx::query_scalar(TENTHS)
            .bind(self.org)
            .bind(job)
            .fetch_all(&mut self.owner)
            .await
            .expect("rates")
    }
}

#[tokio::main]
async fn main() {
    let runs = std::env::var("DASHFLEET_BENCH_RUNS");
    let product = Product::start(1);
    let dev = product.dev();
    let mut bench = Bench {
        api: product.api(),
        org: text(&dev, "organizationId").parse().expect("an id"),
        owner: fill::owner(&text(&dev, "postgresUrl")).await,
        runs: runs.map_or(RUNS, |runs| runs.parse().expect("a number of runs")),
        jobs: 0,
    };
    let org = bench.org;
    println!("empty:");
    let empty = bench.claims().await;
    fill::fill(&mut bench.owner, org, false).await;
    fill::tidy(&mut bench.owner).await;
    let little = lists::measured(&mut bench).await;

    fill::fill(&mut bench.owner, org, true).await;
    tokio::time::sleep(SETTLE).await;
    println!("filled, and nobody has looked at the tables:");
    let fresh = bench.claims().await;
    let fresh_lists = lists::measured(&mut bench).await;

    fill::tidy(&mut bench.owner).await;
    tokio::time::sleep(SETTLE).await;
    println!("filled, after autovacuum's work:");
    let tidy = bench.claims().await;
    let tidy_lists = lists::measured(&mut bench).await;
    let tenths = bench.tenths().await;

    println!(
        "claims in a second: {empty:.0} empty; {fresh:.0} filled ({:.2} x slower), {tidy:.0} after autovacuum ({:.2} x slower)",
        empty / fresh,
        empty / tidy
    );
    let shown: Vec<String> = tenths.iter().map(|rate| format!("{rate:.0}")).collect();
    let least = tenths.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "while 100,000 more wait that may begin, by tenths: {}; the slowest is {:.2} x slower, the median {:.2} x",
        shown.join(", "),
        empty / least,
        empty / median(tenths)
    );
    for (place, (name, base)) in little.iter().enumerate() {
        let (fresh, tidy) = (fresh_lists[place].1, tidy_lists[place].1);
        println!(
            "{name}: p50 {base:.2} ms with a little history; {fresh:.2} ms filled ({:.2} x), {tidy:.2} ms after autovacuum ({:.2} x)",
            fresh / base,
            tidy / base
        );
    }
}

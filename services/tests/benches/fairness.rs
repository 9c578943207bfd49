//! Fairness between organisations: B asks for 110 executions, one each 100 ms, on an idle system; then A asks for 100,000, and while
//! those are worked off B does the same again. Counted are the last hundred of B's; those of the first second, in which A's work
//! begins and no worker knows yet how long it lasts, are counted apart. Each time on a new product with its default settings, hence
//! with five slots for handlers.
//!
//! A wait is PostgreSQL's: from the beginning of the transaction that made the execution (`scheduled_for`) to the beginning of the
//! statement that gave it to a worker (`started_at`). A's work is of two kinds, since they say different things. With
//! `builtin/noop` a slot is free at any moment, and what B waits for is its turn. With `builtin/sleep` of 50 ms all slots
//! are taken, and whoever comes waits for one of them whatever the order is. So beside B's wait the bench says when the first execution
//! of anybody ended after B had asked (there was a slot then), and what B waited beyond that; and the time until B's end was committed,
//! since an execution may be given to a worker a little before it has a slot there.
//!
//! Aim: B's p99 at most twice its p99 on the idle system. `DASHFLEET_BENCH_RUNS=1` makes it shorter.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::time::Duration;

use chrono::{DateTime, Utc};
use dashfleet_tests::{Api, Product};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

const ASKED: usize = 100;
/// Those of the first second, before these.
const FIRST: usize = 10;
const EVERY: Duration = Duration::from_millis(100);
const QUEUED: usize = 100_000;
const BATCH: usize = 10_000;
const RUNS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
const JOBS: &str = "/api/v1/jobs";
const EXECUTIONS: &str = "/api/v1/executions";

/// What the owner of the tables sees once row-level security is not forced upon him.
const SEEN: [&str; 2] = ["ended", "outbox"];
const WAITS: &str = "
    SELECT scheduled_for, started_at, ended_at FROM scheduler.ended
    WHERE org_id = $1 AND id = ANY ($2) AND started_at IS NOT NULL";
const ENDS: &str = "
    SELECT ended_at FROM scheduler.ended WHERE ended_at BETWEEN $1 AND $2 ORDER BY ended_at";
/// What runs, and events that were not published yet.
const BUSY: &str = "
    SELECT (SELECT count(*) FROM scheduler.running) + (SELECT count(*) FROM scheduler.outbox)";
const LEFT: &str = "SELECT count(*) FROM scheduler.waiting WHERE org_id = $1";

/// When an execution was asked for, when it began, and when it had ended.
type Times = [DateTime<Utc>; 3];
type Row = (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>);

/// An organisation that asks for executions of its jobs.
struct Tenant {
    id: Uuid,
    api: Api,
}

/// What an organisation waited, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Waits {
    p50: f64,
    p99: f64,
    /// The longest of those of the first second, which are in none of the others.
    first_max: f64,
    /// Until the first execution of anybody ended.
    slot_p99: f64,
    /// Beyond that.
    turn_p99: f64,
    /// Until its end was committed: with the wait for a slot of an execution that was given to the worker before it had one.
    whole_p99: f64,
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}

async fn made(api: &Api, path: &str, body: Value) -> Value {
    let (status, body) = api.post(path, body).await;
    assert!(status.is_success(), "POST {path}: {status} {body}");
    body
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}

/// A second organisation, with a key of its own.
async fn second(product: &Product) -> Tenant {
    let dev = product.dev();
    let url = text(&dev, "url");
    let login = json!({ "email": dev["adminEmail"], "password": dev["adminPassword"] });
    let tokens = made(&Api::new(&url, ""), "/api/v1/auth/login", login).await;
    let admin = Api::new(&url, &text(&tokens, "accessToken"));
    let organization = json!({ "name": "second" });
    let organization = made(&admin, "/api/v1/organizations", organization).await;
    let switch = json!({ "organizationId": organization["id"] });
    let there = made(&admin, "/api/v1/auth/switch", switch).await;
    let there = Api::new(&url, &text(&there, "accessToken"));
    let key = json!({ "name": "bench", "role": "OWNER" });
    let key = made(&there, "/api/v1/api-keys", key).await;
    Tenant {
        id: text(&organization, "id").parse().expect("an id"),
        api: Api::new(&url, &text(&key, "key")),
    }
}

impl Tenant {
    async fn job(&self, name: &str, handler: &str, config: Value) -> String {
        let job = json!({ "name": name, "handler": handler, "config": config, "retries": 0 });
        text(&made(&self.api, JOBS, job).await, "id")
    }

    /// Asks for so many at once as one request may; they may begin when all have been asked for.
    async fn queue(&self, job: &str, count: usize) {
        made(&self.api, &format!("{JOBS}/{job}/pause"), json!({})).await;
        for _ in 0..count / BATCH {
            let items = vec![json!({ "jobId": job }); BATCH];
            let batch = json!({ "items": items });
            made(&self.api, &format!("{EXECUTIONS}/batch"), batch).await;
        }
        made(&self.api, &format!("{JOBS}/{job}/resume"), json!({})).await;
    }

    /// Asks for one each 100 ms, and says how long they waited.
    async fn waits(&self, database: &mut PgConnection, job: &str) -> Waits {
        let path = format!("{JOBS}/{job}/execute");
        let mut ids: Vec<Uuid> = Vec::with_capacity(FIRST + ASKED);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..FIRST + ASKED {
            ticks.tick().await;
            let started = made(&self.api, &path, json!({})).await;
            ids.push(text(&started, "executionId").parse().expect("an id"));
        }
        let begun = tokio::time::Instant::now();
        let times = loop {
            let rows: Vec<Row> = sqlx::query_as(WAITS)
                .bind(self.id)
                .bind(&ids)
                .fetch_all(&mut *database)
                .await
                .expect("the executions");
            let mut times: Vec<Times> = rows.into_iter().map(<[_; 3]>::from).collect();
            if times.len() == ids.len() {
                times.sort_unstable();
                break times;
            }
            assert!(begun.elapsed() < PATIENCE, "{} have ended", times.len());
            tokio::time::sleep(EVERY).await;
        };
        let first = times.iter().map(|[asked, ..]| *asked).min();
        let last = times.iter().map(|[_, begun, _]| *begun).max();
        let ends: Vec<DateTime<Utc>> = sqlx::query_scalar(ENDS)
            .bind(first)
            .bind(last)
            .fetch_all(&mut *database)
            .await
            .expect("ends");
        waits(&times, &ends)
    }
}

fn millis(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let microseconds = to.signed_duration_since(from).num_microseconds();
    microseconds.expect("a short time") as f64 / 1_000.0
}

fn waits(times: &[Times], ends: &[DateTime<Utc>]) -> Waits {
    let [mut all, mut slots, mut turns, mut whole] = [const { Vec::new() }; 4];
    let (first, times) = times.split_at(FIRST);
    let first_max = first.iter().map(|[asked, begun, _]| millis(*asked, *begun));
    for [asked, begun, ended] in times {
        whole.push(millis(*asked, *ended));
        let wait = millis(*asked, *begun);
        let next = ends.get(ends.partition_point(|end| end < asked));
        // Who began before anybody ended had a slot at once.
        let slot = next.map_or(0.0, |end| millis(*asked, *end));
        let slot = if slot < wait { slot } else { 0.0 };
        all.push(wait);
        slots.push(slot);
        turns.push(wait - slot);
    }
    Waits {
        p50: percentile(&mut all, 50),
        p99: percentile(&mut all, 99),
        first_max: first_max.fold(0.0, f64::max),
        slot_p99: percentile(&mut slots, 99),
        turn_p99: percentile(&mut turns, 99),
        whole_p99: percentile(&mut whole, 99),
    }
}

async fn count(database: &mut PgConnection, sql: &'static str, org: Option<Uuid>) -> i64 {
    let mut query = sqlx::query_scalar(sql);
    if let Some(org) = org {
        query = query.bind(org);
    }
    query.fetch_one(database).await.expect("a count")
}

/// Nothing is under way, and what the last run left behind has settled.
async fn idle(database: &mut PgConnection) {
    let begun = tokio::time::Instant::now();
    while count(database, BUSY, None).await > 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "something is under way for ever"
        );
        tokio::time::sleep(EVERY).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn show(what: &str, waits: Waits, idle: Waits) {
    println!(
        "{what}: B waits p50 {:.1} ms, p99 {:.1} ms, {:.2} x idle; for a slot p99 {:.1} ms, beyond that p99 {:.1} ms, {:.2} x idle; until the end p99 {:.1} ms; in the first second at most {:.1} ms",
        waits.p50,
        waits.p99,
        waits.p99 / idle.p99,
        waits.slot_p99,
        waits.turn_p99,
        waits.turn_p99 / idle.p99,
        waits.whole_p99,
        waits.first_max
    );
}

/// B's waits on the idle system, and while A's executions of this kind wait.
async fn measured(handler: &str, config: &Value) -> [Waits; 2] {
    let product = Product::start(1);
    let dev = product.dev();
    let url = text(&dev, "postgresUrl");
    let mut database = PgConnection::connect(&url).await.expect("the database");
    for table in SEEN {
        let sql = format!("ALTER TABLE scheduler.{table} NO FORCE ROW LEVEL SECURITY");
        let seen = sqlx::query(AssertSqlSafe(sql)).execute(&mut database).await;
        seen.expect("the owner may");
    }
    let first = Tenant {
        id: text(&dev, "organizationId").parse().expect("an id"),
        api: product.api(),
    };
    let second = second(&product).await;
    let ours = second.job("ours", "builtin/noop", json!({})).await;
    second.waits(&mut database, &ours).await;
    idle(&mut database).await;
    let alone = second.waits(&mut database, &ours).await;
    println!(
        "idle: B waits p50 {:.1} ms, p99 {:.1} ms; until the end p99 {:.1} ms",
        alone.p50, alone.p99, alone.whole_p99
    );
    let job = first.job("theirs", handler, config.clone()).await;
    first.queue(&job, QUEUED).await;
    let before = count(&mut database, LEFT, Some(first.id)).await;
    let waits = second.waits(&mut database, &ours).await;
    let after = count(&mut database, LEFT, Some(first.id)).await;
    assert!(after > 0, "A had nothing left: B was alone for a while");
    let what = format!("while {before} to {after} {handler} of A wait");
    show(&what, waits, alone);
    [alone, waits]
}

#[tokio::main]
async fn main() {
    let runs = std::env::var("DASHFLEET_BENCH_RUNS");
    let runs: usize = runs.map_or(RUNS, |runs| runs.parse().expect("a number of runs"));
    let kinds = [
        ("builtin/sleep", json!({ "ms": 50 })),
        ("builtin/noop", json!({})),
    ];
    let mut all = kinds.each_ref().map(|_| Vec::new());
    for _ in 0..runs {
        for ((handler, config), all) in kinds.iter().zip(&mut all) {
            all.push(measured(handler, config).await);
        }
    }
    for ((handler, _), all) in kinds.iter().zip(&all) {
        let median = |of: &dyn Fn(&Waits, &Waits) -> f64| {
            let mut values: Vec<f64> = all.iter().map(|[idle, beside]| of(beside, idle)).collect();
            percentile(&mut values, 50)
        };
        println!(
            "medians of {runs} beside {handler}: p50 {:.1} ms, p99 {:.1} ms, {:.2} x idle ({:.1} ms); beyond the wait for a slot p99 {:.1} ms, {:.2} x idle; until the end p99 {:.1} ms; in the first second at most {:.1} ms",
            median(&|waits, _| waits.p50),
            median(&|waits, _| waits.p99),
            median(&|waits, idle| waits.p99 / idle.p99),
            median(&|_, idle| idle.p99),
            median(&|waits, _| waits.turn_p99),
            median(&|waits, idle| waits.turn_p99 / idle.p99),
            median(&|waits, _| waits.whole_p99),
            median(&|waits, _| waits.first_max)
        );
    }
}

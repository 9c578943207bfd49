//! Executions of a handler that does nothing, beside two queues that people know, in one run: DashFleet with one
//! replica of each service, BullMQ on Debian's Redis, graphile-worker on the product's own PostgreSQL. 20,000 jobs
//! each, with room for 5 and for 50 at once: they are enqueued while nobody may take them (1,000 in a call), and the
//! time runs from the moment at which workers may until the last one has ended. What that is differs, and so does what
//! it is worth:
//!
//! - DashFleet: every execution is a committed row COMPLETED, with its event; `fsync` is on.
//! - BullMQ: Redis has answered that it is completed; the log is synced each second (`appendfsync everysec`), so what
//!   was answered in the last second may be lost. Snapshots are off. Completed jobs are kept in memory.
//! - graphile-worker: the job's row is deleted, and that is committed. Nothing is left of it. 0.16 has no local queue
//!   and ends jobs one by one: 0.17, which batches, needs a newer Node.
//!
//! Then the time from `execute` to the committed end at 100 a second, beside the floor of the protocol (see `latency`),
//! and where it goes (see `profile`). The three take turns in being first. `DASHFLEET_BENCH_RUNS` (3) and
//! `DASHFLEET_BENCH_JOBS` (20,000) shorten it; without Node, npm or Redis it is measured without them.
//!
//! Aims: at least as many in a second as the faster of the two (stretch: twice as many); p50 at most 1.5 times the
//! floor, p99 at most 40 ms.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::str::FromStr;
use std::time::Duration;

use dashfleet_tests::{Api, Product};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

#[path = "latency/floor.rs"]
mod floor;
#[path = "executions/latency.rs"]
mod latency;
#[path = "executions/ours.rs"]
mod ours;
#[path = "executions/peer.rs"]
mod peer;
#[path = "executions/profile.rs"]
mod profile;
#[path = "executions/redis.rs"]
mod redis;
#[path = "executions/report.rs"]
mod report;
#[path = "executions/usage.rs"]
mod usage;

use ours::Ours;
use peer::{Peer, Peers};
use report::{Report, Turn};
use usage::{Meter, Part, Rest};

/// Room for so many at once.
const AT_ONCE: [usize; 2] = [5, 50];
/// How many begin and end before anything is timed.
const WARM_UP: usize = 2_000;
/// How many are enqueued in one call.
const CALL: usize = 1_000;

/// What is measured beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    DashFleet,
    BullMq,
    Graphile,
}

const KINDS: [Kind; 3] = [Kind::DashFleet, Kind::BullMq, Kind::Graphile];

/// How much is asked of each.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub jobs: usize,
    pub at_once: usize,
    /// Whether PostgreSQL's transactions are counted, which needs pauses.
    pub is_counted: bool,
}

/// One of them, running.
enum System {
    Ours(Box<Ours>),
    Peer(Box<Peer>),
}

impl System {
    /// `None` where it cannot be had.
    async fn start(kind: Kind, product: &Product, load: &Load, peers: &Peers) -> Option<Self> {
        match kind {
            Kind::DashFleet => Some(Self::Ours(Box::new(Ours::new(product).await))),
            Kind::BullMq => Some(Self::Peer(Box::new(peers.bullmq(load).await?))),
            Kind::Graphile => Some(Self::Peer(Box::new(peers.graphile(product, load)?))),
        }
    }

    async fn warm_up(&mut self, database: &mut PgConnection) {
        match self {
            Self::Ours(ours) => ours.warm_up(database).await,
            Self::Peer(peer) => {
                peer.said("warm").await;
            }
        }
    }

    /// While nobody may take them; how long it took.
    async fn enqueue(&mut self, load: &Load) -> Duration {
        match self {
            Self::Ours(ours) => ours.enqueue(load.jobs).await,
            Self::Peer(peer) => {
                peer.go().await;
                peer.said("enqueued").await
            }
        }
    }

    /// Lets workers take them; how long it took until all had ended.
    async fn complete(&mut self, load: &Load, database: &mut PgConnection) -> Duration {
        match self {
            Self::Ours(ours) => ours.complete(load.jobs, database).await,
            Self::Peer(peer) => {
                peer.go().await;
                peer.said("completed").await
            }
        }
    }

    fn parts(&self) -> Vec<Part> {
        match self {
            Self::Ours(ours) => ours.parts.clone(),
            Self::Peer(peer) => peer.parts.clone(),
        }
    }

    /// How many of the transactions were questions of this bench.
    fn questions(&self) -> i64 {
        match self {
            Self::Ours(ours) => ours.questions,
            Self::Peer(_) => 0,
        }
    }

    async fn end(self) {
        if let Self::Peer(peer) = self {
            peer.end().await;
        }
    }
}

async fn turn(system: &mut System, load: &Load, database: &mut PgConnection) -> Turn {
    system.warm_up(database).await;
    let parts = system.parts();
    let uses_postgres = parts.iter().any(|(name, _)| *name == "postgres");
    let rest = match load.is_counted && uses_postgres {
        true => Some(Rest::begin(database).await),
        false => None,
    };
    let asked = system.questions();
    let enqueued_in = system.enqueue(load).await;
    let meter = Meter::start(parts, database).await;
    let took = system.complete(load, database).await;
    let mut cost = meter.stop(database).await;
    if let Some(rest) = rest {
        let more = rest.since(database).await - (system.questions() - asked) as f64;
        cost.transactions = Some(more);
    }
    if !uses_postgres {
        cost.written = None;
    }
    Turn {
        load: *load,
        enqueued_in,
        took,
        cost,
    }
}

/// A job that does nothing; its id.
pub async fn job(api: &Api, name: &str) -> String {
    let job = json!({ "name": name, "handler": "builtin/noop" });
    let (status, job) = api.post("/api/v1/jobs", job).await;
    assert_eq!(status, 201, "{job}");
    text(&job["id"])
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A connection to the product's database that sees all executions.
async fn connect(product: &Product) -> PgConnection {
    let role = "df_scheduler_system";
    let file = product
        .folder()
        .join(format!("keys/postgres/{role}.password"));
    let password = std::fs::read_to_string(file).expect("a password");
    let options = PgConnectOptions::from_str(&text(&product.dev()["postgresUrl"]))
        .expect("a URL")
        .username(role)
        .password(password.trim());
    PgConnection::connect_with(&options)
        .await
        .expect("PostgreSQL")
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

#[tokio::main]
async fn main() {
    let runs = number("DASHFLEET_BENCH_RUNS", 3).max(1);
    let jobs = number("DASHFLEET_BENCH_JOBS", 20_000);
    let peers = Peers::get();
    let mut report = Report::default();
    for run in 0..runs {
        for at_once in AT_ONCE {
            let product = Product::start_with(
                1,
                &[
                    ("DASHFLEET_WORKER_CONCURRENCY", &at_once.to_string()),
                    // The one who asks is one key, and asks for thousands.
                    ("DASHFLEET_REQUESTS_PER_SECOND", "100000"),
                    ("DASHFLEET_HEAVY_REQUESTS_PER_SECOND", "100000"),
                ],
            );
            // At what a worker has room for when nobody says otherwise.
            if at_once == AT_ONCE[0] {
                report.paced(Box::pin(latency::measure(&product)).await);
            }
            let load = Load {
                jobs,
                at_once,
                is_counted: run + 1 == runs,
            };
            let mut database = connect(&product).await;
            let mut kinds = KINDS;
            kinds.rotate_left(run % KINDS.len());
            for kind in kinds {
                let started = Box::pin(System::start(kind, &product, &load, &peers)).await;
                let Some(mut system) = started else {
                    continue;
                };
                let turn = Box::pin(turn(&mut system, &load, &mut database)).await;
                system.end().await;
                report.took(run, kind, turn);
            }
        }
    }
    report.print();
    Box::pin(profile::print()).await;
}

//! Latency of `ping` actions, one at a time, from the POST's start to the committed result, beside the floor of
//! this box: the commits, journal writes and round trips that the protocol needs, measured in the same run, each
//! ping followed by one floor sequence, so that both see the same noise.
//!
//! Floor of one action: one HTTP round trip; one bus round trip to the owner; one commit; one push (half a round
//! trip); two journal writes (`fdatasync` of an overwritten block); one request (half a round trip) and one commit.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bus::{Bus, BusConfig};
use dashfleet_tests::{Api, Product};
use futures::StreamExt;
use serde_json::json;
use sqlx::{Connection, PgConnection};

const ACTIONS: usize = 200;
const WARM_UP: usize = 20;
const RUNS: usize = 3;

struct Floor {
    database: PgConnection,
    journal: std::fs::File,
    echo: std::net::TcpStream,
    asker: Bus,
    echoes: bus::Subscription,
}

impl Floor {
    async fn new(product: &Product) -> Self {
        let dev = product.dev();
        let mut database = PgConnection::connect(dev["postgresUrl"].as_str().expect("postgresUrl"))
            .await
            .expect("the database");
        for sql in [
            "CREATE SCHEMA IF NOT EXISTS floor",
            "CREATE TABLE IF NOT EXISTS floor.actions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL, status text NOT NULL)",
        ] {
            sqlx::query(sql)
                .execute(&mut database)
                .await
                .expect("the floor's table");
        }
        let mut journal = std::fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(product.folder().join("floor.journal"))
            .expect("a file");
        journal
            .write_all(&vec![0_u8; 1 << 20])
            .and_then(|()| journal.sync_all())
            .expect("a file of zeros");
        // A user of the SYS account may hear its own inbox only, so the floor's messages go through one of its own:
        // publish and hear on one connection are a round trip through the server.
        let seed =
            std::fs::read_to_string(product.folder().join("keys/gateway/nats.nk")).expect("a seed");
        let urls = vec![dev["natsUrl"].as_str().expect("natsUrl").to_owned()];
        let asker = Bus::connect(BusConfig::service(
            urls,
            None,
            seed.trim().to_owned(),
            "gateway",
        ))
        .await
        .expect("the bus");
        assert!(asker.wait_connected(Duration::from_secs(10)).await);
        let echoes = asker
            .subscribe("df.live.floor.echo.*")
            .await
            .expect("a subscription");
        Self {
            database,
            journal,
            echo: echo_server(),
            asker,
            echoes,
        }
    }

    fn http_round_trip(&mut self) {
        self.echo.write_all(&[7; 400]).expect("a request");
        self.echo.read_exact(&mut [0; 400]).expect("an answer");
    }

    async fn commit(&mut self) {
        sqlx::query("INSERT INTO floor.actions (payload, status) VALUES ($1, 'QUEUED')")
            .bind(json!({}))
            .execute(&mut self.database)
            .await
            .expect("a commit");
    }

    fn journal_write(&mut self, place: usize) {
        self.journal
            .write_all_at(&[1; 512], (place as u64 * 512) % (1 << 20))
            .expect("a write");
        self.journal.sync_data().expect("a sync");
    }

    /// A request to the bus server and its answer.
    async fn bus_round_trip(&mut self) {
        self.asker.flush().await.expect("a flush");
    }

    async fn measure(&mut self, place: usize) -> Duration {
        let start = Instant::now();
        self.http_round_trip();
        // There and back through the server is two hops each way: two flushes.
        self.bus_round_trip().await;
        self.bus_round_trip().await;
        self.commit().await;
        self.bus_round_trip().await;
        self.journal_write(place * 2);
        self.journal_write(place * 2 + 1);
        self.bus_round_trip().await;
        self.commit().await;
        start.elapsed()
    }
}

/// An echo on a thread of its own, as a server would be.
fn echo_server() -> std::net::TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = std::net::TcpStream::connect(listener.local_addr().expect("an address"))
        .expect("a connection");
    client.set_nodelay(true).expect("no delay");
    std::thread::spawn(move || {
        let (mut server, _) = listener.accept().expect("a connection");
        server.set_nodelay(true).expect("no delay");
        let mut bytes = [0; 400];
        while server.read_exact(&mut bytes).is_ok() && server.write_all(&bytes).is_ok() {}
    });
    client
}

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
    let mut floor = Floor::new(&product).await;
    let mut live = floor
        .asker
        .subscribe("df.live.*.action.*")
        .await
        .expect("a subscription");
    floor.asker.flush().await.expect("a flush");
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (mut pings, mut floors) = (Vec::new(), Vec::new());
        for place in 0..WARM_UP + ACTIONS {
            let took = ping(&api, &machine, &mut live).await;
            let least = floor.measure(place).await;
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
    drop(floor.echoes);
}

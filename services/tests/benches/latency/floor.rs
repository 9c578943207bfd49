//! What a protocol needs on this box, and nothing else: no service, no check, no signature. One HTTP round trip, hops from
//! program to program through the bus server, and what is made durable between them: commits of one row, and `fdatasync`s of
//! an overwritten block of a journal.

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bus::{Bus, BusConfig};
use dashfleet_tests::Product;
use futures::StreamExt;
use serde_json::json;
use sqlx::{Connection, PgConnection};

/// The journal's size; blocks are overwritten in turn.
const JOURNAL_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 512;
/// What a request, an answer and an order weigh, about.
const MESSAGE_BYTES: usize = 400;

const HOP: &str = "df.live.floor.action.0";

/// What is made durable after a hop, before the next one.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    commits: usize,
    blocks: usize,
}

impl Durable {
    /// So many commits of one row, then so many blocks of the journal.
    pub const fn of(commits: usize, blocks: usize) -> Self {
        Self { commits, blocks }
    }
}

/// The floor, ready to be measured.
pub struct Floor {
    database: PgConnection,
    journal: std::fs::File,
    echo: std::net::TcpStream,
    speaker: Bus,
    heard: bus::Subscription,
}

impl Floor {
    /// On the servers of a product, so that both see the same disk and the same bus. What `onlooker` subscribed before,
    /// it hears from now on.
    pub async fn new(product: &Product, onlooker: &Bus) -> Self {
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
            .write_all(&vec![0_u8; JOURNAL_BYTES])
            .and_then(|()| journal.sync_all())
            .expect("a file of zeros");
        // A message from one connection to another is a hop, as it is between two programs.
        let speaker = connect(product, "action").await;
        let mut heard = onlooker.subscribe(HOP).await.expect("a subscription");
        let mut said = 0;
        while said == 0 || !hears(&mut heard).await {
            assert!(said < 50, "the onlooker does not hear");
            say(&speaker).await;
            said += 1;
        }
        // What was said in vain at first may come yet.
        while hears(&mut heard).await {}
        Self {
            database,
            journal,
            echo: echo_server(),
            speaker,
            heard,
        }
    }

    fn http_round_trip(&mut self) {
        self.echo.write_all(&[7; MESSAGE_BYTES]).expect("a request");
        self.echo
            .read_exact(&mut [0; MESSAGE_BYTES])
            .expect("an answer");
    }

    async fn commit(&mut self) {
        sqlx::query("INSERT INTO floor.actions (payload, status) VALUES ($1, 'QUEUED')")
            .bind(json!({}))
            .execute(&mut self.database)
            .await
            .expect("a commit");
    }

    fn journal_write(&mut self, place: usize) {
        let at = (place * BLOCK_BYTES) % JOURNAL_BYTES;
        self.journal
            .write_all_at(&[1; BLOCK_BYTES], at as u64)
            .and_then(|()| self.journal.sync_data())
            .expect("a durable block");
    }

    async fn hop(&mut self) {
        say(&self.speaker).await;
        self.heard.next().await.expect("the message");
    }

    /// One sequence: the HTTP round trip, then the hops with what follows each of them. `place` is its number.
    pub async fn measure(&mut self, place: usize, hops: &[Durable]) -> Duration {
        let start = Instant::now();
        self.http_round_trip();
        let mut block = place * hops.iter().map(|durable| durable.blocks).sum::<usize>();
        for durable in hops {
            self.hop().await;
            for _ in 0..durable.commits {
                self.commit().await;
            }
            for _ in 0..durable.blocks {
                self.journal_write(block);
                block += 1;
            }
        }
        start.elapsed()
    }
}

async fn say(speaker: &Bus) {
    speaker
        .publish(HOP.into(), vec![7; MESSAGE_BYTES])
        .await
        .expect("a message");
}

async fn hears(heard: &mut bus::Subscription) -> bool {
    tokio::time::timeout(Duration::from_millis(200), heard.next())
        .await
        .is_ok()
}

/// A connection with a service's own key.
pub async fn connect(product: &Product, service: &str) -> Bus {
    let seed = std::fs::read_to_string(product.folder().join(format!("keys/{service}/nats.nk")))
        .expect("a seed");
    let urls = vec![
        product.dev()["natsUrl"]
            .as_str()
            .expect("natsUrl")
            .to_owned(),
    ];
    let config = BusConfig::service(urls, None, seed.trim().to_owned(), service);
    let bus = Bus::connect(config).await.expect("the bus");
    assert!(bus.wait_connected(Duration::from_secs(10)).await);
    bus
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
        let mut bytes = [0; MESSAGE_BYTES];
        while server.read_exact(&mut bytes).is_ok() && server.write_all(&bytes).is_ok() {}
    });
    client
}

//! What jobs cost: the processor time of each process, and what PostgreSQL wrote and committed.

use std::time::{Duration, Instant};

use dashfleet_tests::{Product, processor};
use sqlx::PgConnection;

/// Processes of one name.
pub type Part = (&'static str, Vec<i32>);

/// The number of the next transaction that writes, and the length of the log: exact at once.
const WRITTEN: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
/// All transactions; a statement alone is one. (`pg_stat_statements` would have to be loaded when the server starts.)
const TRANSACTIONS: &str =
    "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";

/// What connections counted reaches those who ask once they have been at rest for ten seconds.
const PAUSE: Duration = Duration::from_secs(12);

/// The processes of these parts of a product.
pub fn parts(product: &Product, names: &[&'static str]) -> Vec<Part> {
    names
        .iter()
        .map(|name| (*name, product.pids(name)))
        .collect()
}

/// What jobs cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Seconds of processor time of each part.
    pub processor: Vec<(&'static str, f64)>,
    /// Transactions that wrote, and bytes of PostgreSQL's log; `None` where it has no part in it.
    pub written: Option<(i64, i64)>,
    /// All transactions, where they were counted.
    pub transactions: Option<f64>,
}

/// Measures from its start to its stop.
pub struct Meter {
    parts: Vec<Part>,
    seconds: Vec<f64>,
    written: (i64, i64),
}

impl Meter {
    pub async fn start(parts: Vec<Part>, database: &mut PgConnection) -> Self {
        let written = written(database).await;
        Self {
            seconds: seconds(&parts),
            parts,
            written,
        }
    }

    pub async fn stop(self, database: &mut PgConnection) -> Cost {
        let now = seconds(&self.parts);
        let used = now.iter().zip(&self.seconds).map(|(now, was)| now - was);
        let (transactions, bytes) = written(database).await;
        Cost {
            processor: self.parts.iter().map(|(name, _)| *name).zip(used).collect(),
            written: Some((transactions - self.written.0, bytes - self.written.1)),
            transactions: None,
        }
    }
}

fn seconds(parts: &[Part]) -> Vec<f64> {
    parts
        .iter()
        .map(|(_, pids)| {
            pids.iter()
                .map(|pid| processor::seconds_with_children(*pid))
                .sum::<f64>()
        })
        .collect()
}

async fn written(database: &mut PgConnection) -> (i64, i64) {
    sqlx::query_as(WRITTEN)
        .fetch_one(database)
        .await
        .expect("what was written")
}

/// How many transactions there are while nobody asks for anything, so that those can be taken off.
pub struct Rest {
    since: Instant,
    transactions: i64,
    each_second: f64,
}

impl Rest {
    pub async fn begin(database: &mut PgConnection) -> Self {
        let before = settled(database).await;
        let since = Instant::now();
        let transactions = settled(database).await;
        Self {
            each_second: (transactions - before) as f64 / since.elapsed().as_secs_f64(),
            since: Instant::now(),
            transactions,
        }
    }

    /// How many more than at rest there have been.
    pub async fn since(&self, database: &mut PgConnection) -> f64 {
        let now = settled(database).await;
        let at_rest = self.each_second * self.since.elapsed().as_secs_f64();
        (now - self.transactions) as f64 - at_rest
    }
}

async fn settled(database: &mut PgConnection) -> i64 {
    tokio::time::sleep(PAUSE).await;
    sqlx::query_scalar(TRANSACTIONS)
        .fetch_one(database)
        .await
        .expect("a count")
}

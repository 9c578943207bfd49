//! The audit's outbox: what was committed is handed over, whatever happens in between, and one that nobody takes holds
//! nobody back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use database::{AuditRelay, AuditRow, NotHanded};
use domain::OrgId;
use testkit::{Postgres, eventually};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);
const SCHEMA: &str = "action";

fn row(org: OrgId, entry: &str) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        org,
        entry: entry.to_owned(),
    }
}

/// An owner of the audit, as a test turns it.
#[derive(Clone, Default)]
struct Owner {
    taken: Arc<Mutex<Vec<AuditRow>>>,
    sizes: Arc<Mutex<Vec<usize>>>,
    away: Arc<Mutex<bool>>,
}

impl Owner {
    async fn hand(self, rows: Vec<AuditRow>) -> Result<Vec<Option<String>>, NotHanded> {
        if *self.away.lock().unwrap() {
            return Err((false, "away".to_owned()).into());
        }
        if rows.iter().any(|row| row.entry == "unreadable") {
            return Err((true, "this is no entry".to_owned()).into());
        }
        self.sizes.lock().unwrap().push(rows.len());
        let refused = |row: &AuditRow| (row.entry == "refused").then(|| "not taken".to_owned());
        let answers = rows.iter().map(refused).collect();
        let taken = rows.into_iter().filter(|row| row.entry != "refused");
        self.taken.lock().unwrap().extend(taken);
        Ok(answers)
    }

    fn relay(&self, database: &testkit::TestDatabase) -> (AuditRelay, tokio::task::JoinHandle<()>) {
        let (relay, owner) = (AuditRelay::new(), self.clone());
        let pool = database.pools(SCHEMA).system().clone();
        let running = relay
            .clone()
            .run(pool, SCHEMA, move |rows| owner.clone().hand(rows));
        (relay, tokio::spawn(running))
    }

    async fn has(&self, many: usize) {
        eventually(&format!("{many} are handed over"), PATIENCE, || async {
            (self.taken.lock().unwrap().len() >= many).then_some(())
        })
        .await;
    }
}

async fn left(database: &testkit::TestDatabase) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM action.audit_outbox")
        .fetch_one(database.pools(SCHEMA).system())
        .await
        .unwrap()
}

#[tokio::test]
async fn rows_leave_in_their_order_once_they_are_taken_and_rolled_back_ones_never() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    let (owner, org) = (Owner::default(), OrgId::new());
    *owner.away.lock().unwrap() = true;
    let (relay, task) = owner.relay(&database);
    let mut expected = Vec::new();
    for n in 0..600 {
        let mut tx = pools.tenant_tx(org).await.unwrap();
        let row = row(org, &n.to_string());
        row.insert_in_tx(SCHEMA, &mut tx).await.unwrap();
        if n % 100 == 0 {
            continue;
        }
        tx.commit().await.unwrap();
        expected.push(row);
    }
    relay.wake();
    assert_eq!(left(&database).await, 594);
    *owner.away.lock().unwrap() = false;
    owner.has(594).await;
    assert_eq!(*owner.taken.lock().unwrap(), expected);
    eventually("the outbox is empty", PATIENCE, || async {
        (left(&database).await == 0).then_some(())
    })
    .await;
    task.abort();
}

#[tokio::test]
async fn what_nobody_takes_is_put_aside_with_the_reason() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    let (owner, org) = (Owner::default(), OrgId::new());
    let mut rows: Vec<AuditRow> = (0..300).map(|n| row(org, &n.to_string())).collect();
    for (place, entry) in [(0, "unreadable"), (99, "refused"), (200, "unreadable")] {
        rows[place].entry = entry.to_owned();
    }
    AuditRow::write_all(&rows, SCHEMA, &pools).await.unwrap();
    let (_relay, task) = owner.relay(&database);
    owner.has(297).await;
    eventually("three are aside", PATIENCE, || async {
        let aside: Vec<(String, String)> = sqlx::query_as(
            "SELECT entry, failure FROM action.audit_outbox WHERE not_before > now() ORDER BY seq",
        )
        .fetch_all(pools.system())
        .await
        .unwrap();
        let words = [
            ("unreadable", "this is no entry"),
            ("refused", "not taken"),
            ("unreadable", "this is no entry"),
        ]
        .map(|(entry, failure)| (entry.to_owned(), failure.to_owned()));
        (aside == words && left(&database).await == 3).then_some(())
    })
    .await;
    assert_eq!(owner.taken.lock().unwrap().len(), 297);
    task.abort();
}

#[tokio::test]
async fn one_replica_relays_and_another_takes_over_with_what_was_not_deleted() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    let (first, second) = (Owner::default(), Owner::default());
    let org = OrgId::new();
    let (relay, task) = first.relay(&database);
    AuditRow::write_all(&[row(org, "1")], SCHEMA, &pools)
        .await
        .unwrap();
    relay.wake();
    first.has(1).await;
    let (_, other) = second.relay(&database);
    let large = "x".repeat(700_000);
    let rows: Vec<AuditRow> = (0..3).map(|_| row(org, &large)).collect();
    AuditRow::write_all(&rows, SCHEMA, &pools).await.unwrap();
    first.has(4).await;
    assert!(
        first.sizes.lock().unwrap().iter().all(|size| *size == 1),
        "a megabyte at a time"
    );
    assert!(second.taken.lock().unwrap().is_empty());
    task.abort();
    AuditRow::write_all(&[row(org, "2")], SCHEMA, &pools)
        .await
        .unwrap();
    second.has(1).await;
    other.abort();
}

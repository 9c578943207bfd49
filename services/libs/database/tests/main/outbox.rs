//! Events leave at least once and, for each thing, in the order of its versions; whoever relays may die at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use database::{OutboxRow, Pools, Relay};
use domain::OrgId;
use serde_json::json;
use testkit::{Postgres, TestDatabase};
use uuid::Uuid;

/// What the stream has, in its order: relay, thing, version.
type Stream = Arc<Mutex<Vec<(usize, Uuid, i64)>>>;

struct World {
    database: TestDatabase,
    org: OrgId,
    things: Vec<Uuid>,
    stream: Stream,
}

impl World {
    async fn new() -> Self {
        let database = Postgres::shared().await.database().await;
        let things = (0..5).map(|_| Uuid::now_v7()).collect();
        Self {
            database,
            org: OrgId::new(),
            things,
            stream: Stream::default(),
        }
    }

    fn pools(&self) -> Pools {
        self.database.pools("action")
    }

    /// Writes so many events of each thing, the things taking turns, as tenant transactions do.
    async fn write(&self, versions: std::ops::RangeInclusive<i64>) {
        let pools = self.pools();
        for version in versions {
            let mut tx = pools.tenant_tx(self.org).await.unwrap();
            for thing in &self.things {
                OutboxRow::new(self.org, "action", "succeeded", *thing, version, json!({}))
                    .insert_in_tx("action", &mut tx)
                    .await
                    .unwrap();
            }
            tx.commit().await.unwrap();
        }
    }

    async fn left(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM action.outbox")
            .fetch_one(self.pools().system())
            .await
            .unwrap()
    }

    async fn until_empty(&self) {
        testkit::eventually("the outbox is empty", Duration::from_secs(20), || async {
            (self.left().await == 0).then_some(())
        })
        .await;
    }

    fn published(&self) -> Vec<(usize, Uuid, i64)> {
        self.stream.lock().unwrap().clone()
    }

    /// Each thing's versions as a consumer sees them that drops what it saw: none may be missing.
    fn check(&self, through: i64) {
        let mut seen: BTreeMap<Uuid, i64> = BTreeMap::new();
        for (_, thing, version) in self.published() {
            let last = seen.entry(thing).or_default();
            assert!(
                version <= *last + 1,
                "{thing}: version {version} came after {last}"
            );
            *last = version.max(*last);
        }
        assert_eq!(seen.len(), self.things.len());
        assert!(seen.values().all(|last| *last == through), "{seen:?}");
    }
}

/// Runs a relay whose stream takes everything, after a moment.
fn relay(world: &World, name: usize) -> (Relay, tokio::task::JoinHandle<()>) {
    let (relay, stream, pool) = (
        Relay::new(),
        world.stream.clone(),
        world.pools().system().clone(),
    );
    let running = relay.clone().run(pool, "action", move |row: OutboxRow| {
        let stream = stream.clone();
        async move {
            tokio::time::sleep(Duration::from_micros(u64::from(row.id.as_bytes()[15]) * 4)).await;
            stream
                .lock()
                .unwrap()
                .push((name, row.subject_id, row.version));
            Ok(())
        }
    });
    (relay, tokio::spawn(running))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_publish_each_event_once_and_each_thing_in_order() {
    let world = World::new().await;
    let (first, one) = relay(&world, 1);
    let (second, other) = relay(&world, 2);
    for versions in [1..=40, 41..=60, 61..=100] {
        world.write(versions).await;
        first.wake();
        second.wake();
    }
    world.until_empty().await;
    world.check(100);
    assert_eq!(world.published().len(), 500, "nothing was published twice");
    one.abort();
    other.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_and_not_deleted_is_published_again_in_order() {
    let world = World::new().await;
    world.write(1..=30).await;
    // The first relay dies when it has published a part, before it deletes anything.
    let (stream, pool) = (world.stream.clone(), world.pools().system().clone());
    let dying = tokio::spawn(Relay::new().run(pool, "action", move |row: OutboxRow| {
        let stream = stream.clone();
        async move {
            if row.version > 12 {
                return pending().await;
            }
            stream
                .lock()
                .unwrap()
                .push((1, row.subject_id, row.version));
            Ok(())
        }
    }));
    let part = testkit::eventually("a part is published", Duration::from_secs(10), || async {
        let published = world.published().len();
        (published == 12 * world.things.len()).then_some(published)
    })
    .await;
    let (_, heir) = relay(&world, 2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.published().len(), part, "two relays at once");
    dying.abort();
    world.until_empty().await;
    heir.abort();
    world.check(30);
    let again = world
        .published()
        .iter()
        .filter(|(relay, _, version)| *relay == 2 && *version <= 12)
        .count();
    assert_eq!(again, part, "everything that was not deleted comes again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_stream_refuses_holds_back_the_later_ones_of_its_thing() {
    let world = World::new().await;
    world.write(1..=20).await;
    let (stream, pool, unlucky) = (
        world.stream.clone(),
        world.pools().system().clone(),
        world.things[2],
    );
    let refusals = Arc::new(Mutex::new(3));
    let running = tokio::spawn(Relay::new().run(pool, "action", move |row: OutboxRow| {
        let (stream, refusals) = (stream.clone(), refusals.clone());
        async move {
            tokio::time::sleep(Duration::from_micros(u64::from(row.id.as_bytes()[15]) * 4)).await;
            if row.subject_id == unlucky && row.version == 7 && {
                let mut left = refusals.lock().unwrap();
                *left -= 1;
                *left >= 0
            } {
                return Err("no room".to_owned());
            }
            stream
                .lock()
                .unwrap()
                .push((1, row.subject_id, row.version));
            Ok(())
        }
    }));
    world.until_empty().await;
    running.abort();
    world.check(20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_waits_for_its_turn_keeps_to_its_connections() {
    let world = World::new().await;
    let (_, leading) = relay(&world, 1);
    world.write(1..=1).await;
    world.until_empty().await;
    let (url, system) = (
        world.database.url("df_action"),
        world.database.url("df_action_system"),
    );
    let pools = Pools::connect("waiting", &url, &system, 4).unwrap();
    let publish = |_: OutboxRow| async { Err("not its turn".to_owned()) };
    let waiting = tokio::spawn(Relay::new().run(pools.system().clone(), "action", publish));
    let (looks, mut sessions) = (world.pools(), BTreeSet::new());
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let now: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'dashfleet-waiting%'",
        )
        .fetch_all(looks.system())
        .await
        .unwrap();
        sessions.extend(now);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=2).contains(&sessions.len()), "{sessions:?}");
    waiting.abort();
    leading.abort();
}

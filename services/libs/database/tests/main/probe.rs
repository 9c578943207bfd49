//! The table that the group commit's tests write, and the batch that writes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use database::group_commit::Written;
use database::{Batch, DatabaseError, GroupCommit, Pools};
use sqlx::{Connection, Executor, PgConnection, PgPool, Row};
use testkit::{Postgres, TestDatabase};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use uuid::Uuid;

/// One row for each key, and one for each item that was ever applied. Some of them take their time to commit, so that
/// a connection can be lost just then.
const SCHEMA: &str = "
    CREATE SCHEMA probe;
    CREATE TABLE probe.tallies (
        key integer CONSTRAINT tallies_pkey PRIMARY KEY,
        count integer NOT NULL,
        total bigint NOT NULL,
        history integer[] NOT NULL
    );
    CREATE TABLE probe.seen (
        id uuid CONSTRAINT seen_pkey PRIMARY KEY,
        key integer NOT NULL,
        value integer NOT NULL CONSTRAINT seen_not_thirteen CHECK (value <> 13),
        xid xid8 NOT NULL DEFAULT pg_current_xact_id()
    );
    CREATE FUNCTION probe.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(0.001);
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON probe.seen DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.value % 5 = 0) EXECUTE FUNCTION probe.dawdle();
    CREATE FUNCTION probe.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'fifteen is too much' USING ERRCODE = 'program_limit_exceeded';
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON probe.seen
        FOR EACH ROW WHEN (NEW.value = 15) EXECUTE FUNCTION probe.refuse();
    GRANT USAGE ON SCHEMA probe TO df_action_system;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA probe TO df_action_system;";

/// Rows are locked in the order of the input: that it is sorted is the group commit's part. An `ON CONFLICT` that
/// meets a key twice fails: that there are no repeated keys is its part too.
const WRITE: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::int[], $2::uuid[], $3::int[], $4::text[])
        WITH ORDINALITY AS input(key, id, number, value, place)
    ), fresh AS (
        INSERT INTO probe.seen (id, key, value) SELECT id, key, value::int FROM input ORDER BY place
        ON CONFLICT (id) DO NOTHING RETURNING id
    ), tallied AS (
        INSERT INTO probe.tallies AS tally (key, count, total, history)
        SELECT key, 1, value::int, ARRAY[number] FROM input JOIN fresh USING (id) ORDER BY place
        ON CONFLICT (key) DO UPDATE SET count = tally.count + 1, total = tally.total + excluded.total,
            history = tally.history || excluded.history
    )
    SELECT fresh.id IS NOT NULL AS applied FROM input LEFT JOIN fresh USING (id) ORDER BY place";

/// The same in two statements, for a batch that needs a transaction.
const REMEMBER: &str = "
    INSERT INTO probe.seen (id, key, value)
    SELECT id, key, value::int FROM unnest($1::uuid[], $2::int[], $3::text[]) AS input(id, key, value)
    ON CONFLICT (id) DO NOTHING RETURNING id";

const TALLY: &str = "
    INSERT INTO probe.tallies AS tally (key, count, total, history)
    SELECT key, 1, value::int, ARRAY[number]
    FROM unnest($1::int[], $2::int[], $3::text[]) WITH ORDINALITY AS input(key, number, value, place) ORDER BY place
    ON CONFLICT (key) DO UPDATE SET count = tally.count + 1, total = tally.total + excluded.total,
        history = tally.history || excluded.history";

/// One thing to write. `number` grows with the order of arrival; `value` is text, so that it can be no number.
#[derive(Clone, Debug)]
pub struct Item {
    pub key: i32,
    pub id: Uuid,
    pub number: i32,
    pub value: String,
}

/// What became of it: applied now, or found applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Applied,
    Repeated,
}

/// How often the server answered a write with a deadlock, or not at all, and how many items were found applied by
/// a run before whose outcome was unknown.
#[derive(Debug, Default)]
pub struct Trouble {
    pub deadlocks: AtomicUsize,
    pub lost: AtomicUsize,
    pub repeated: AtomicUsize,
}

/// The batch under test, as one statement or as two.
pub struct Tallies<const ONE: bool>(pub Arc<Trouble>);

impl<const ONE: bool> Batch for Tallies<ONE> {
    type Item = Item;
    type Answer = Fate;
    type Key = i32;

    const ONE_STATEMENT: bool = ONE;

    fn key(item: &Item) -> i32 {
        item.key
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Item],
    ) -> Written<'a, Fate> {
        Box::pin(async move {
            let written = if ONE {
                in_one(connection, items).await
            } else {
                in_two(connection, items).await
            };
            match &written {
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {
                    self.0.deadlocks.fetch_add(1, Ordering::Relaxed);
                }
                Err(sqlx::Error::Database(error))
                    if error.code().is_some_and(|code| code.starts_with("57")) =>
                {
                    self.0.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(sqlx::Error::Io(_)) => {
                    self.0.lost.fetch_add(1, Ordering::Relaxed);
                }
                Ok(fates) => {
                    let repeated = fates.iter().filter(|fate| **fate == Fate::Repeated).count();
                    self.0.repeated.fetch_add(repeated, Ordering::Relaxed);
                }
                Err(_) => {}
            }
            written
        })
    }
}

fn column<T>(items: &[&Item], of: impl Fn(&Item) -> T) -> Vec<T> {
    items.iter().map(|item| of(item)).collect()
}

fn fate(applied: bool) -> Fate {
    if applied {
        Fate::Applied
    } else {
        Fate::Repeated
    }
}

/// One statement, which locks in the order of `items`.
pub async fn in_one(
    connection: &mut PgConnection,
    items: &[&Item],
) -> Result<Vec<Fate>, sqlx::Error> {
    let rows = sqlx::query(WRITE)
        .bind(column(items, |item| item.key))
        .bind(column(items, |item| item.id))
        .bind(column(items, |item| item.number))
        .bind(column(items, |item| item.value.clone()))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| row.try_get("applied").map(fate))
        .collect()
}

async fn in_two(connection: &mut PgConnection, items: &[&Item]) -> Result<Vec<Fate>, sqlx::Error> {
    let fresh: Vec<Uuid> = sqlx::query_scalar(REMEMBER)
        .bind(column(items, |item| item.id))
        .bind(column(items, |item| item.key))
        .bind(column(items, |item| item.value.clone()))
        .fetch_all(&mut *connection)
        .await?;
    let new: Vec<&Item> = items
        .iter()
        .copied()
        .filter(|item| fresh.contains(&item.id))
        .collect();
    sqlx::query(TALLY)
        .bind(column(&new, |item| item.key))
        .bind(column(&new, |item| item.number))
        .bind(column(&new, |item| item.value.clone()))
        .execute(connection)
        .await?;
    Ok(items
        .iter()
        .map(|item| fate(fresh.contains(&item.id)))
        .collect())
}

/// What the table says of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: i32,
    pub total: i64,
    pub history: Vec<i32>,
}

/// A database with the probe's tables.
pub struct Probe {
    pub database: TestDatabase,
    pub admin: PgPool,
    pub trouble: Arc<Trouble>,
    pub wire: Wire,
}

impl Probe {
    /// A new one. Committers notice a deadlock after 20 ms, so that it is they who give way.
    pub async fn new() -> Self {
        let postgres = Postgres::shared().await;
        let database = postgres.database().await;
        let mut owner = PgConnection::connect(&database.url("df_owner"))
            .await
            .unwrap();
        owner.execute(SCHEMA).await.unwrap();
        let admin = PgPool::connect(&postgres.admin_url(&database.name))
            .await
            .unwrap();
        let alter = format!(
            "ALTER ROLE df_action_system IN DATABASE {} SET deadlock_timeout = '20ms'",
            database.name
        );
        admin.execute(sqlx::AssertSqlSafe(alter)).await.unwrap();
        let wire = Wire::to(&database.url("df_action_system")).await;
        Self {
            database,
            admin,
            trouble: Arc::default(),
            wire,
        }
    }

    /// A replica: pools of its own, and a running committer.
    pub fn replica<const ONE: bool>(&self) -> (Pools, GroupCommit<Tallies<ONE>>) {
        let pools = self.pools(4);
        let (commits, committer) = GroupCommit::start(&pools, Tallies::<ONE>(self.trouble.clone()));
        tokio::spawn(committer);
        (pools, commits)
    }

    pub fn pools(&self, connections: u32) -> Pools {
        let (tenant, system) = (self.database.url("df_action"), self.wire.url.clone());
        Pools::connect("probe", &tenant, &system, connections).unwrap()
    }

    pub async fn clear(&self) {
        self.admin
            .execute("TRUNCATE probe.tallies, probe.seen")
            .await
            .unwrap();
    }

    pub async fn tallies(&self) -> BTreeMap<i32, Tally> {
        let rows =
            sqlx::query("SELECT key, count, total, history FROM probe.tallies WHERE count > 0")
                .fetch_all(&self.admin)
                .await
                .unwrap();
        rows.iter()
            .map(|row| {
                (
                    row.get("key"),
                    Tally {
                        count: row.get("count"),
                        total: row.get("total"),
                        history: row.get("history"),
                    },
                )
            })
            .collect()
    }

    /// Ends every connection of the committers, in the middle of whatever it does; says how many.
    pub async fn cut(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'dashfleet-probe%') AS cut",
        )
        .fetch_one(&self.admin)
        .await
        .unwrap()
    }

    /// Loses every connection of the committers, while the server goes on with what it was asked: it may well commit.
    pub fn sever(&self) {
        drop(self.wire.sever.send(()));
    }

    /// Whether the server is writing for a committer now.
    pub async fn is_writing(&self) -> bool {
        self.has_committer("state = 'active'").await
    }

    /// Whether it is at the very end of that.
    pub async fn is_committing(&self) -> bool {
        self.has_committer("wait_event = 'PgSleep'").await
    }

    async fn has_committer(&self, that: &str) -> bool {
        let question = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
             AND application_name LIKE 'dashfleet-probe%' AND {that})"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(question))
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }
}

/// A wire between committers and the server, which can break on the committers' side alone, or go dumb: what stands
/// stays and carries nothing any more, as when the server's host is gone. New connections get through.
pub struct Wire {
    url: String,
    sever: broadcast::Sender<()>,
    dumb: broadcast::Sender<()>,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let (head, tail) = url.rsplit_once(':').unwrap();
        let (port, path) = tail.split_once('/').unwrap();
        let server: u16 = port.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{head}:{}/{path}", listener.local_addr().unwrap().port());
        let (sever, _) = broadcast::channel(1);
        let (dumb, _) = broadcast::channel(1);
        let signals = (sever.clone(), dumb.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (severed, dumb) = (signals.0.subscribe(), signals.1.subscribe());
                tokio::spawn(carry(client, server, severed, dumb));
            }
        });
        Self { url, sever, dumb }
    }

    /// Lets nothing through any more on the connections that stand.
    pub fn strike_dumb(&self) {
        drop(self.dumb.send(()));
    }
}

async fn carry(
    mut client: TcpStream,
    server: u16,
    mut severed: broadcast::Receiver<()>,
    mut dumb: broadcast::Receiver<()>,
) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else {
        return;
    };
    let broken = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
        _ = severed.recv() => true,
        _ = dumb.recv() => {
            // Both ends stay open, and nobody reads them.
            drop(severed.recv().await);
            false
        }
    };
    drop(client);
    if broken {
        // The server is not told for a while.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Hands everything in, in this order, and waits for all answers.
pub async fn submit_all<const ONE: bool>(
    commits: &GroupCommit<Tallies<ONE>>,
    items: &[Item],
) -> Vec<Result<Fate, DatabaseError>> {
    futures::future::join_all(items.iter().map(|item| commits.submit(item.clone()))).await
}

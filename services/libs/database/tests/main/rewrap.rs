//! After a rotation everything that is sealed comes under the new key: page by page, whoever writes meanwhile, wherever a
//! run was cut off; and what does not open is named.

use std::collections::BTreeMap;
use std::time::Duration;

use database::rewrap::NotWrapped;
use database::{DatabaseError, Pools, Rewrapped, SealedColumn};
use domain::OrgId;
use seal::{KeyRing, Place};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use testkit::{Postgres, TestDatabase, eventually};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE action.sealed_things (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        secret bytea,
        CONSTRAINT sealed_things_pkey PRIMARY KEY (org_id, id)
    );
    ALTER TABLE action.sealed_things ENABLE ROW LEVEL SECURITY;
    ALTER TABLE action.sealed_things FORCE ROW LEVEL SECURITY;
    CREATE POLICY system ON action.sealed_things TO df_action_system USING (true);
    CREATE TABLE action.sealed_settings (id uuid CONSTRAINT sealed_settings_pkey PRIMARY KEY, secret bytea);
    GRANT SELECT, INSERT, UPDATE, DELETE ON action.sealed_things, action.sealed_settings TO df_action_system;";

const THINGS: SealedColumn = SealedColumn {
    table: "action.sealed_things",
    column: "secret",
    org: Some("org_id"),
    row: "id",
};
const SETTINGS: SealedColumn = SealedColumn {
    table: "action.sealed_settings",
    org: None,
    ..THINGS
};

/// Where a secret lies: organisation and row.
type At = (Uuid, Uuid);

struct World {
    database: TestDatabase,
    pools: Pools,
    old: KeyRing,
    /// After a rotation.
    both: KeyRing,
    /// When the old key was taken out.
    new: KeyRing,
}

fn ring(lines: &[&str]) -> KeyRing {
    KeyRing::from_text(&lines.join("\n")).unwrap()
}

fn place(of: SealedColumn, (org, row): At) -> Place {
    Place {
        table: of.table,
        column: of.column,
        org: of.org.map(|_| OrgId(org)),
        row,
    }
}

impl World {
    async fn new() -> Self {
        let database = Postgres::shared().await.database().await;
        let mut admin = admin(&database).await;
        admin.execute(SCHEMA).await.unwrap();
        let (old, new) = (KeyRing::new_line().unwrap(), KeyRing::new_line().unwrap());
        Self {
            pools: database.pools("action"),
            database,
            old: ring(&[&old]),
            both: ring(&[&new, &old]),
            new: ring(&[&new]),
        }
    }

    fn pool(&self) -> &PgPool {
        self.pools.system()
    }

    async fn put(&self, (org, row): At, secret: Option<&[u8]>) {
        sqlx::query("INSERT INTO action.sealed_things (org_id, id, secret) VALUES ($1, $2, $3)")
            .bind(org)
            .bind(row)
            .bind(secret)
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// So many secrets under the old key, in so many organisations; each says its own number.
    async fn fill(&self, orgs: usize, each: usize) -> BTreeMap<At, String> {
        let mut all = BTreeMap::new();
        for n in 0..orgs {
            let org = Uuid::now_v7();
            for m in 0..each {
                let (at, text) = ((org, Uuid::now_v7()), format!("secret {n}/{m}"));
                let sealed = self.old.seal(&place(THINGS, at), text.as_bytes());
                self.put(at, Some(&sealed.unwrap())).await;
                all.insert(at, text);
            }
        }
        all
    }

    async fn sealed(&self, (org, row): At) -> Option<Vec<u8>> {
        sqlx::query_scalar("SELECT secret FROM action.sealed_things WHERE org_id = $1 AND id = $2")
            .bind(org)
            .bind(row)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// What is there opens with the new key alone, and says what it said.
    async fn check(&self, all: &BTreeMap<At, String>) {
        for (at, text) in all {
            let sealed = self.sealed(*at).await.unwrap();
            let opened = self.new.open(&place(THINGS, *at), &sealed).unwrap();
            assert_eq!(opened.text(), Some(text.as_str()));
        }
    }

    async fn rewrap(&self) -> Rewrapped {
        THINGS.rewrap(self.pool(), &self.both).await.unwrap()
    }

    /// Waits until somebody waits for a row.
    async fn somebody_waits(&self) {
        let mut admin = admin(&self.database).await;
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        for _ in 0..1_000 {
            let waiting: i64 = sqlx::query_scalar(waits)
                .fetch_one(&mut admin)
                .await
                .unwrap();
            if waiting > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody waited");
    }
}

async fn admin(database: &TestDatabase) -> PgConnection {
    let url = Postgres::shared().await.admin_url(&database.name);
    PgConnection::connect(&url).await.unwrap()
}

fn counts(done: &Rewrapped) -> [u64; 4] {
    [done.wrapped, done.already, done.overtaken, done.failed]
}

#[tokio::test]
async fn everything_comes_under_the_new_key_page_by_page_and_once() {
    let world = World::new().await;
    assert_eq!(world.rewrap().await, Rewrapped::default(), "nothing there");
    let all = world.fill(3, 90).await;
    world.put((Uuid::now_v7(), Uuid::now_v7()), None).await;
    let done = world.rewrap().await;
    assert_eq!(counts(&done), [270, 0, 0, 0]);
    assert!(done.is_complete());
    world.check(&all).await;
    let (at, _) = all.first_key_value().unwrap();
    let before = world.sealed(*at).await;
    let done = world.rewrap().await;
    assert_eq!(counts(&done), [0, 270, 0, 0], "once is enough");
    assert_eq!(world.sealed(*at).await, before);
}

#[tokio::test]
async fn a_table_of_the_installation_has_no_organisation() {
    let world = World::new().await;
    let mut rows = Vec::new();
    for n in 0..150 {
        let (row, text) = (Uuid::now_v7(), format!("setting {n}"));
        let place = place(SETTINGS, (Uuid::nil(), row));
        let sealed = world.old.seal(&place, text.as_bytes()).unwrap();
        sqlx::query("INSERT INTO action.sealed_settings (id, secret) VALUES ($1, $2)")
            .bind(row)
            .bind(sealed)
            .execute(world.pool())
            .await
            .unwrap();
        rows.push((place, text));
    }
    let done = SETTINGS.rewrap(world.pool(), &world.both).await.unwrap();
    assert_eq!(counts(&done), [150, 0, 0, 0]);
    for (place, text) in rows {
        let sealed: Vec<u8> =
            sqlx::query_scalar("SELECT secret FROM action.sealed_settings WHERE id = $1")
                .bind(place.row)
                .fetch_one(world.pool())
                .await
                .unwrap();
        let opened = world.new.open(&place, &sealed).unwrap();
        assert_eq!(opened.text(), Some(text.as_str()));
    }
}

#[tokio::test]
async fn whoever_writes_meanwhile_wins() {
    let world = World::new().await;
    let mut all = world.fill(1, 3).await;
    let at = *all.keys().nth(1).unwrap();
    // By a replica that has not come to the new key.
    let theirs = world.old.seal(&place(THINGS, at), b"theirs").unwrap();
    let mut tx = world.pools.system_tx().await.unwrap();
    sqlx::query("UPDATE action.sealed_things SET secret = $1 WHERE org_id = $2 AND id = $3")
        .bind(theirs.clone())
        .bind(at.0)
        .bind(at.1)
        .execute(&mut *tx)
        .await
        .unwrap();
    let writer = async {
        world.somebody_waits().await;
        tx.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(world.rewrap(), writer);
    assert_eq!(counts(&done), [2, 0, 1, 0]);
    assert!(!done.is_complete(), "somebody may have used an older key");
    assert_eq!(world.sealed(at).await, Some(theirs));
    all.insert(at, "theirs".to_owned());
    let done = world.rewrap().await;
    assert_eq!(counts(&done), [1, 2, 0, 0]);
    world.check(&all).await;
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_begun_again() {
    let world = World::new().await;
    let all = world.fill(1, 220).await;
    let at = *all.keys().nth(120).unwrap();
    let mut tx = world.pools.system_tx().await.unwrap();
    sqlx::query("SELECT id FROM action.sealed_things WHERE org_id = $1 AND id = $2 FOR UPDATE")
        .bind(at.0)
        .bind(at.1)
        .execute(&mut *tx)
        .await
        .unwrap();
    tokio::select! {
        done = world.rewrap() => panic!("it did not wait: {done:?}"),
        () = world.somebody_waits() => {}
    }
    drop(tx);
    // What was on its way when it was cut off may have arrived.
    let done = eventually("the row is free", PATIENCE, || async {
        let done = world.rewrap().await;
        (done.overtaken == 0).then_some(done)
    })
    .await;
    assert_eq!(done.wrapped + done.already, 220);
    assert!(done.already >= 120, "{done:?}");
    assert!(done.is_complete());
    world.check(&all).await;
}

#[tokio::test]
async fn a_row_that_does_not_open_is_named_and_the_others_go_on() {
    let world = World::new().await;
    let all = world.fill(2, 60).await;
    let lost = ring(&[&KeyRing::new_line().unwrap()]);
    let org = Uuid::now_v7();
    let elsewhere = (org, Uuid::now_v7());
    let mut bad: BTreeMap<At, (Vec<u8>, &str)> = BTreeMap::new();
    for (what, words) in [
        ("lost", "which is not among the keys here"),
        ("moved", "was sealed for another row"),
        ("nonsense", "this is no sealed secret"),
        ("huge", "has 300000 bytes"),
    ] {
        let at = (org, Uuid::now_v7());
        let sealed = match what {
            "lost" => lost.seal(&place(THINGS, at), b"x").unwrap(),
            "moved" => world.old.seal(&place(THINGS, elsewhere), b"x").unwrap(),
            "nonsense" => b"plain text".to_vec(),
            _ => vec![1; 300_000],
        };
        world.put(at, Some(&sealed)).await;
        bad.insert(at, (sealed, words));
    }
    let done = world.rewrap().await;
    assert_eq!(counts(&done), [120, 0, 0, 4]);
    assert!(!done.is_complete());
    let named: Vec<At> = done
        .failures
        .iter()
        .map(|NotWrapped { org, row, .. }| (org.unwrap().0, *row))
        .collect();
    assert_eq!(named, bad.keys().copied().collect::<Vec<_>>());
    for (failure, (at, (sealed, words))) in done.failures.iter().zip(&bad) {
        assert!(failure.reason.contains(words), "{failure:?}");
        assert_eq!(world.sealed(*at).await.as_ref(), Some(sealed), "it stays");
    }
    world.check(&all).await;
    // More of them than are named are still counted.
    for _ in 0..130 {
        let at = (org, Uuid::now_v7());
        world.put(at, Some(b"plain text")).await;
    }
    let done = world.rewrap().await;
    assert_eq!(counts(&done), [0, 120, 0, 134]);
    assert_eq!(done.failures.len(), 100);
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let world = World::new().await;
    for wrong in [
        SealedColumn {
            table: "sealed_things",
            ..THINGS
        },
        SealedColumn {
            table: "action.sealed_things; DROP TABLE x",
            ..THINGS
        },
        SealedColumn {
            column: "secret = secret --",
            ..THINGS
        },
        SealedColumn {
            org: Some(""),
            ..THINGS
        },
        SealedColumn {
            row: "nothing",
            ..THINGS
        },
    ] {
        let refused = wrong.rewrap(world.pool(), &world.both).await;
        assert!(
            matches!(refused, Err(DatabaseError::Bug(_))),
            "{wrong:?}: {refused:?}"
        );
    }
}

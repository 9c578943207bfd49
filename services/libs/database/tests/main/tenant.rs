//! What one transaction leaves to the next on the same connection: nothing, least of all its organisation.

use std::time::Duration;

use database::{DatabaseError, Pools, Tx};
use domain::OrgId;
use sqlx::PgConnection;
use testkit::Postgres;

const INSERT: &str = "
    INSERT INTO metrics.machines (org_id, id, change, hostname, labels, inventory, enrolled_at)
    SELECT $1, gen_random_uuid(), n, 'web-' || n, '{}', '{}', now() FROM generate_series(1, $2) n";
/// What a tenant sees, and by which connection.
const SEEN: &str =
    "SELECT count(*), count(DISTINCT org_id), pg_backend_pid() FROM metrics.machines";

/// A database in which one organisation has two machines and another has three, and pools of one connection each.
struct World {
    pools: Pools,
    two: OrgId,
    three: OrgId,
}

impl World {
    async fn new() -> Self {
        let database = Postgres::shared().await.database().await;
        let (tenant, system) = (
            database.url("df_metrics"),
            database.url("df_metrics_system"),
        );
        let pools = Pools::connect("metrics", &tenant, &system, 1).unwrap();
        let (two, three) = (OrgId::new(), OrgId::new());
        for (org, machines) in [(two, 2), (three, 3)] {
            sqlx::query(INSERT)
                .bind(org.0)
                .bind(machines)
                .execute(pools.system())
                .await
                .unwrap();
        }
        Self { pools, two, three }
    }

    async fn read(&self, org: OrgId) -> Tx {
        self.pools.tenant_read(org).await.unwrap()
    }
}

/// Machines that are seen, their organisations, and the server's process.
async fn seen(connection: &mut PgConnection) -> (i64, i64, i32) {
    sqlx::query_as(SEEN).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn each_sees_its_own_organisation_whoever_was_there_before() {
    let world = World::new().await;
    let mut first = None;
    for round in 0..20 {
        for (org, machines) in [(world.two, 2_i64), (OrgId::new(), 0), (world.three, 3)] {
            let mut tx = match round % 3 {
                0 => world.pools.tenant_tx(org).await.unwrap(),
                _ => world.read(org).await,
            };
            let (count, organisations, process) = seen(&mut tx).await;
            assert_eq!((count, organisations), (machines, machines.min(1)));
            assert_eq!(*first.get_or_insert(process), process, "another connection");
            if round % 2 == 0 {
                tx.commit().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn whoever_has_no_organisation_sees_nothing_on_a_connection_that_had_one() {
    let world = World::new().await;
    let (.., process) = seen(&mut *world.read(world.two).await).await;
    let mut tx = world.read(world.three).await;
    assert_eq!(seen(&mut tx).await, (3, 1, process));
    // The session without a transaction, as the one before left it.
    sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await.unwrap();
    assert_eq!(seen(&mut tx).await, (0, 0, process));
    let setting: Option<String> =
        sqlx::query_scalar("SELECT nullif(current_setting('df.org', true), '')")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert_eq!(setting, None);
}

#[tokio::test]
async fn a_statement_that_fails_or_is_given_up_harms_nobody_after_it() {
    let world = World::new().await;
    let (.., process) = seen(&mut *world.read(world.two).await).await;

    let mut tx = world.read(world.two).await;
    let failed = sqlx::query("SELECT 1 / 0").execute(&mut *tx).await;
    assert!(matches!(
        DatabaseError::from(failed.unwrap_err()),
        DatabaseError::Data(_)
    ));
    drop(tx);
    assert_eq!(
        seen(&mut *world.read(world.three).await).await,
        (3, 1, process)
    );

    // Dropped while the server works on it, before anything of the answer was read.
    let mut tx = world.read(world.two).await;
    let slow = sqlx::query("SELECT pg_sleep(0.3)").execute(&mut *tx);
    let _given_up = tokio::time::timeout(Duration::from_millis(20), slow).await;
    drop(tx);
    assert_eq!(
        seen(&mut *world.read(world.three).await).await,
        (3, 1, process)
    );
}

#[tokio::test]
async fn what_is_only_read_is_not_written() {
    let world = World::new().await;
    let mut tx = world.read(world.two).await;
    let written = sqlx::query("UPDATE metrics.machines SET stopping_reason = 'x'")
        .execute(&mut *tx)
        .await;
    let error = written.unwrap_err();
    let code = error.as_database_error().and_then(|refused| refused.code());
    assert_eq!(code.as_deref(), Some("25006"), "{error}");
    drop(tx);
    // The transactions that write still do, on the same connection.
    let mut tx = world.pools.tenant_tx(world.two).await.unwrap();
    let written = sqlx::query("UPDATE metrics.machines SET stopping_reason = 'x'")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert_eq!(written.rows_affected(), 2);
    tx.commit().await.unwrap();
}

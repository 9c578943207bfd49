//! Tenancy as the database's own catalogue shows it (DESIGN §10): what no service can get around, however it errs.

use checks::Catalogue;
use domain::{MachineId, OrgId};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::{Postgres, TestDatabase};

mod checks;
mod reasons;

/// A database as it is a while after the migrations: partitions exist.
async fn lived_in() -> TestDatabase {
    let database = Postgres::shared().await.database().await;
    let mut system = PgConnection::connect(&database.url("df_metrics_system"))
        .await
        .unwrap();
    let made: i32 = sqlx::query_scalar(
        "SELECT metrics.sample_partitions_ensure(current_date, current_date + 2)",
    )
    .fetch_one(&mut system)
    .await
    .unwrap();
    assert_eq!(made, 3);
    let mut system = PgConnection::connect(&database.url("df_scheduler_system"))
        .await
        .unwrap();
    let made: i32 =
        sqlx::query_scalar("SELECT scheduler.partitions_ensure(current_date, current_date + 2)")
            .fetch_one(&mut system)
            .await
            .unwrap();
    assert_eq!(made, 6, "three days of what has ended, and of its logs");
    database
}

#[tokio::test]
async fn every_table_is_closed_to_other_organisations_and_to_other_services() {
    let (wrong, looked_at) = Catalogue::of(&lived_in().await).await.check().await;
    println!("catalogue: {looked_at:?}");
    assert!(
        looked_at["tables"] > 20 && looked_at["policies"] > 30 && looked_at["grants"] > 40,
        "the catalogue was not read"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What somebody might do, and what the test above then says.
const MISTAKES: [(&str, &str); 24] = [
    (
        "CREATE TABLE action.notes (org_id uuid NOT NULL PRIMARY KEY)",
        "action.notes: row-level security is not enabled",
    ),
    (
        "CREATE TABLE action.words (word text)",
        "action.words: has no org_id",
    ),
    (
        "ALTER TABLE action.actions NO FORCE ROW LEVEL SECURITY",
        "action.actions: row-level security is not enabled and forced",
    ),
    (
        "ALTER TABLE action.actions DISABLE ROW LEVEL SECURITY",
        "action.actions: row-level security is not enabled and forced",
    ),
    (
        "DROP POLICY tenant ON action.attempts",
        "action.attempts: has no tenant policy",
    ),
    (
        "DROP POLICY system ON action.attempts",
        "action.attempts: has no system policy",
    ),
    (
        "ALTER POLICY tenant ON action.actions USING (true)",
        "action.actions.tenant: the tenant policy has another condition",
    ),
    (
        "ALTER POLICY tenant ON action.actions TO PUBLIC",
        "action.actions.tenant: is neither",
    ),
    (
        "CREATE POLICY more ON action.actions TO df_action USING (true)",
        "action.actions.more: is neither",
    ),
    (
        "CREATE POLICY retention ON action.actions TO df_owner USING (true)",
        "action.actions.retention: is neither",
    ),
    (
        "ALTER POLICY retention ON identity.audit_events TO df_owner, df_identity_system",
        "identity.audit_events.retention: is neither",
    ),
    (
        "ALTER POLICY system ON action.actions TO df_action, df_action_system",
        "action.actions.system: is neither",
    ),
    (
        "CREATE UNIQUE INDEX by_kind ON action.actions (kind)",
        "action.actions.by_kind: does not begin with org_id",
    ),
    (
        "GRANT SELECT ON metrics.machines TO df_action",
        "metrics.machines SELECT df_action: is granted to another",
    ),
    (
        "GRANT SELECT (payload) ON action.actions TO PUBLIC",
        "action.actions SELECT PUBLIC: is granted to another",
    ),
    (
        "GRANT TRUNCATE ON action.actions TO df_action_system",
        "action.actions TRUNCATE df_action_system: goes around",
    ),
    (
        "GRANT USAGE ON SCHEMA identity TO df_action",
        "df_action identity: may look into",
    ),
    (
        "GRANT CREATE ON SCHEMA action TO df_action",
        "df_action action: may create in a schema",
    ),
    (
        "GRANT SELECT ON identity.api_keys TO df_identity",
        "identity.api_keys.hash: a tenant's transaction may read it",
    ),
    (
        "CREATE TABLE scheduler.ended_default PARTITION OF scheduler.ended DEFAULT",
        "scheduler.ended: has a DEFAULT partition",
    ),
    (
        "CREATE UNIQUE INDEX by_token ON scheduler.running (token)",
        "scheduler.running.by_token: does not begin with org_id",
    ),
    (
        "CREATE VIEW action.open AS SELECT * FROM action.actions",
        "action.open: a view that is not security_invoker",
    ),
    (
        "CREATE FUNCTION action.all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM action.actions'",
        "runs with its owner's rights",
    ),
    (
        "CREATE TABLE metrics.samples_default PARTITION OF metrics.samples DEFAULT",
        "metrics.samples: has a DEFAULT partition",
    ),
];

#[tokio::test]
async fn each_mistake_is_noticed() {
    let database = lived_in().await;
    for (mistake, expected) in MISTAKES {
        let mut catalogue = Catalogue::of(&database).await;
        // Undone with the connection.
        catalogue.connection.execute("BEGIN").await.unwrap();
        catalogue
            .connection
            .execute(AssertSqlSafe(mistake))
            .await
            .unwrap();
        let (wrong, _) = catalogue.check().await;
        assert!(
            wrong.iter().any(|wrong| wrong.contains(expected)),
            "{mistake}: {wrong:#?}"
        );
    }
}

#[tokio::test]
async fn a_transaction_sees_and_writes_its_own_organisation_and_without_one_nothing() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools("action");
    let (ours, theirs) = (OrgId::new(), OrgId::new());
    let insert = "INSERT INTO action.machines (org_id, id, fingerprint, change, releases) VALUES ($1, $2, 'f', 1, 0)";
    for org in [ours, theirs] {
        sqlx::query(insert)
            .bind(org.0)
            .bind(MachineId::new().0)
            .execute(pools.system())
            .await
            .unwrap();
    }
    let count = "SELECT count(*) FROM action.machines";
    let mut tx = pools.tenant_tx(ours).await.unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&mut *tx)
            .await
            .unwrap(),
        1
    );
    let stolen =
        sqlx::query("UPDATE action.machines SET last_seq = 9 WHERE org_id = $1").bind(theirs.0);
    assert_eq!(stolen.execute(&mut *tx).await.unwrap().rows_affected(), 0);
    let moved = sqlx::query("UPDATE action.machines SET org_id = $1")
        .bind(theirs.0)
        .execute(&mut *tx)
        .await;
    assert!(
        moved
            .unwrap_err()
            .to_string()
            .contains("row-level security")
    );
    drop(tx);
    // The setting ends with its transaction: the same connection, asked without one, shows nothing.
    let mut lone = PgConnection::connect(&database.url("df_action"))
        .await
        .unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&mut lone)
            .await
            .unwrap(),
        0
    );
    lone.execute(AssertSqlSafe(format!(
        "BEGIN; SET LOCAL df.org = '{}'; COMMIT",
        ours.0
    )))
    .await
    .unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&mut lone)
            .await
            .unwrap(),
        0
    );
}

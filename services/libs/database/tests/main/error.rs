//! What PostgreSQL's errors mean, from a server that says them.

use std::time::Duration;

use database::DatabaseError;
use sqlx::AssertSqlSafe;
use testkit::Postgres;

const SCHEMA: &str = "action";

#[tokio::test]
async fn what_ends_a_session_is_worth_another_try_and_a_bug_is_not() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    for (code, transient) in [
        ("25006", true),
        ("25P03", true),
        ("25P04", true),
        ("57P01", true),
        ("57P05", true),
        ("57014", true),
        ("40P01", true),
        ("55P03", true),
        ("25P02", false),
        ("25001", false),
        ("42P01", false),
    ] {
        let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
        let said = sqlx::query(AssertSqlSafe(sql))
            .execute(pools.system())
            .await;
        let error = DatabaseError::from(said.unwrap_err());
        assert_eq!(error.is_transient(), transient, "{code}: {error}");
    }
}

#[tokio::test]
async fn a_transaction_that_was_idle_for_too_long_is_worth_another_try() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    let mut tx = pools.system_tx().await.unwrap();
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let said = sqlx::query("SELECT 1").execute(&mut *tx).await;
    let error = DatabaseError::from(said.unwrap_err());
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_only_follows_is_a_database_that_is_away() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools(SCHEMA);
    let mut tx = pools.system_tx().await.unwrap();
    // As each transaction is on a server that was the first before a failover.
    sqlx::query("SET TRANSACTION READ ONLY")
        .execute(&mut *tx)
        .await
        .unwrap();
    let said = sqlx::query("DELETE FROM action.outbox")
        .execute(&mut *tx)
        .await;
    let error = DatabaseError::from(said.unwrap_err());
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error}");
}

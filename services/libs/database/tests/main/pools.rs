//! The end of pools: who holds a connection does not hold up a process that ends.

use std::time::Duration;

use database::Pools;
use testkit::Postgres;

/// Much longer than the limit: without one, `close` would wait for as long as the connection is held.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_connection_in_use_does_not_keep_pools_from_closing() {
    let database = Postgres::shared().await.database().await;
    let (tenant, system) = (
        database.url("df_metrics"),
        database.url("df_metrics_system"),
    );
    let pools = Pools::connect("metrics", &tenant, &system, 2).unwrap();
    let mut held = pools.system_tx().await.unwrap();
    tokio::time::timeout(PATIENCE, pools.close())
        .await
        .expect("closed, though a connection is in use");
    // Nobody gets another one; who has one may still use it.
    assert!(pools.system_tx().await.is_err());
    assert!(pools.tenant_tx(domain::OrgId::new()).await.is_err());
    let one: i32 = sqlx::query_scalar("SELECT 1")
        .fetch_one(&mut *held)
        .await
        .unwrap();
    assert_eq!(one, 1);
    held.commit().await.unwrap();
}

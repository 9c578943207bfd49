//! Partitions: made ahead, dropped when over, never in the way.

use contract::metrics::SERVICE;
use sqlx::Connection;

use crate::main::world::{PATIENCE, World, in_seconds, sample};
use dashfleet_metrics::Timing;

const PARTITIONS: &str = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'metrics.samples'::regclass ORDER BY 1";

async fn partitions(world: &World) -> Vec<String> {
    sqlx::query_scalar(PARTITIONS)
        .fetch_all(world.database.pools(SERVICE).system())
        .await
        .unwrap()
}

fn day(offset: i64) -> String {
    format!(
        "samples_{}",
        in_seconds(offset * 86_400).utc().format("%Y%m%d")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn they_reach_from_the_retention_to_three_days_ahead_and_older_ones_go() {
    let mut world = World::without_metrics(Timing {
        maintain: std::time::Duration::from_millis(100),
        ..Timing::default()
    })
    .await;
    let system = world.database.pools(SERVICE).system().clone();
    sqlx::query("SELECT metrics.sample_partitions_ensure(current_date - 20, current_date - 15)")
        .execute(&system)
        .await
        .unwrap();
    assert_eq!(partitions(&world).await.len(), 6);
    // Somebody reads an old partition: it stays, and nobody waits for it for long.
    let mut reader = sqlx::PgConnection::connect(&world.database.url("df_metrics_system"))
        .await
        .unwrap();
    sqlx::raw_sql(
        "BEGIN; SELECT count(*) FROM metrics.samples WHERE at < now() - interval '14 days'",
    )
    .execute(&mut reader)
    .await
    .unwrap();
    world.metrics_start();
    world.settle().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    assert!(
        agent
            .samples(vec![sample(in_seconds(-1), 1.0, 1.0, 1.0)])
            .await
            .is_ok(),
        "samples are taken meanwhile"
    );
    assert!(partitions(&world).await.contains(&day(-20)));
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut reader)
        .await
        .unwrap();
    let expected: Vec<_> = (-8..=3).map(day).collect();
    testkit::eventually("old partitions are gone", PATIENCE, || async {
        (partitions(&world).await == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_refuse_what_would_hurt() {
    let world = World::without_metrics(Timing::default()).await;
    let pools = world.database.pools(SERVICE);
    for sql in [
        "SELECT metrics.sample_partitions_drop(current_date)",
        "SELECT metrics.sample_partitions_drop(NULL)",
        "SELECT metrics.sample_partitions_ensure(current_date, current_date + 1000)",
        "SELECT metrics.sample_partitions_ensure(current_date, NULL)",
        "DROP TABLE metrics.samples",
    ] {
        assert!(
            sqlx::query(sql).execute(pools.system()).await.is_err(),
            "{sql}"
        );
    }
    let mut tx = pools.tenant_tx(world.org).await.unwrap();
    assert!(
        sqlx::query("SELECT metrics.sample_partitions_ensure(current_date, current_date)")
            .execute(&mut *tx)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_partition_is_made_when_a_sample_wants_it() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    world.mirrored().await;
    let yesterday = in_seconds(-86_400);
    let mut owner = sqlx::PgConnection::connect(&world.database.url("df_owner"))
        .await
        .unwrap();
    let drop_it = format!("DROP TABLE metrics.{}", day(-1));
    sqlx::query(sqlx::AssertSqlSafe(drop_it))
        .execute(&mut owner)
        .await
        .unwrap();
    testkit::eventually("the sample is taken", PATIENCE, || async {
        agent
            .samples(vec![sample(yesterday, 1.0, 1.0, 1.0)])
            .await
            .ok()
    })
    .await;
}

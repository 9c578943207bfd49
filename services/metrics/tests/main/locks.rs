//! Locks are taken in one order by all who write: machines before what is latest of them, and each by key.

use std::sync::Arc;
use std::time::Duration;

use bus::system::SystemBus;
use contract::metrics::SERVICE;
use dashfleet_metrics::metrics::Metrics;
use dashfleet_metrics::store::sample::{Newest, SampleWrite, SampleWrites};
use dashfleet_metrics::store::session::{Heard, SessionWrite, SessionWrites};
use dashfleet_metrics::{App, Timing};
use database::group_commit::Batch;
use database::{Pools, Relay};
use domain::MachineId;
use sqlx::PgConnection;

use crate::main::world::{Enrolled, World};

/// A world with so many machines, none of which ever connected.
async fn world_of(count: usize) -> (World, Pools, Vec<Enrolled>) {
    let world = World::without_metrics(Timing::default()).await;
    let machines: Vec<_> = (0..count)
        .map(|n| world.enroll(&format!("web-{n}"), &[]))
        .collect();
    let pools = world.database.pools(SERVICE);
    let (bus, system) = (
        world.nats.bus("metrics").await,
        SystemBus::new(world.nats.bus("metrics-sys").await),
    );
    let metrics = Arc::new(Metrics::new().unwrap());
    let (app, _committers) = App::new(
        pools.clone(),
        bus,
        system,
        Relay::new(),
        metrics,
        world.timing,
    );
    app.mirror_catch_up().await.unwrap();
    app.partitions_maintain().await.unwrap();
    (world, pools, machines)
}

/// Waits until somebody waits for a lock of this one's.
async fn somebody_waits(pools: &Pools, holder: &mut PgConnection) {
    let holder: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(holder)
        .await
        .unwrap();
    testkit::eventually("somebody waits", Duration::from_secs(10), || async {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))",
        )
        .bind(holder)
        .fetch_one(pools.system())
        .await
        .unwrap();
        waits.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_and_a_connection_of_one_machine_do_not_wait_for_each_other() {
    let (world, pools, machines) = Box::pin(world_of(1)).await;
    let (org, machine) = (machines[0].org, machines[0].machine);
    let mut inventory = pools.tenant_tx(org).await.unwrap();
    sqlx::query("UPDATE metrics.machines SET inventory = '{}' WHERE id = $1")
        .bind(machine.0)
        .execute(&mut *inventory)
        .await
        .unwrap();
    let (writes, writing) = (
        SessionWrites {
            metrics: Arc::new(Metrics::new().unwrap()),
            graces: world.timing.graces,
        },
        pools.clone(),
    );
    let connecting = tokio::spawn(async move {
        let opened = SessionWrite {
            org,
            machine,
            server_id: "A".into(),
            server_name: "a".into(),
            cid: 1,
            started_at: chrono::Utc::now(),
            said_at: None,
            came_at: std::time::Instant::now(),
            heard: Heard::Opened,
        };
        let mut tx = writing.system_tx().await.unwrap();
        let written = writes.write(&mut tx, &[&opened]).await;
        tx.commit().await.unwrap();
        written
    });
    somebody_waits(&pools, &mut inventory).await;
    let seen = sqlx::query("UPDATE metrics.latest SET last_seen_at = now() WHERE machine_id = $1")
        .bind(machine.0)
        .execute(&mut *inventory);
    let seen = tokio::time::timeout(Duration::from_millis(500), seen).await;
    assert!(seen.expect("at once").is_ok());
    inventory.commit().await.unwrap();
    let changes = connecting.await.unwrap().unwrap();
    assert!(changes[0].as_ref().is_some_and(|change| change.online));
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_take_the_rows_of_their_machines_by_key() {
    const COUNT: usize = 200;
    let (_world, pools, mut machines) = Box::pin(world_of(COUNT)).await;
    machines.sort_by_key(|enrolled| (enrolled.org.0, enrolled.machine.0));
    let first: MachineId = machines[0].machine;
    // Where a plan that reads the table as it lies would find it: at the end.
    for sql in [
        "UPDATE metrics.latest SET last_seen_at = now() WHERE machine_id = $1",
        "UPDATE metrics.latest SET last_seen_at = now() - interval '1 s' WHERE machine_id = $1",
    ] {
        sqlx::query(sql)
            .bind(first.0)
            .execute(pools.system())
            .await
            .unwrap();
    }
    let mut holder = pools.system_tx().await.unwrap();
    sqlx::query("SELECT 1 FROM metrics.latest WHERE machine_id = $1 FOR UPDATE")
        .bind(first.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let at = chrono::Utc::now();
    let health = domain::health::health(1.0, 1.0, 1.0);
    let items: Vec<_> = machines
        .iter()
        .map(|enrolled| {
            Arc::new(SampleWrite {
                org: enrolled.org,
                machine: enrolled.machine,
                rows: vec![(at, "{}".into())],
                newest: Some(Newest {
                    at,
                    sample: "{}".into(),
                    health,
                }),
            })
        })
        .collect();
    let (writes, writing) = (
        SampleWrites {
            metrics: Arc::new(Metrics::new().unwrap()),
        },
        pools.clone(),
    );
    let reporting = tokio::spawn(async move {
        let mut connection = writing.system().acquire().await.unwrap();
        let items: Vec<_> = items.iter().collect();
        let written = writes.write(&mut connection, &items).await;
        written.unwrap().len()
    });
    somebody_waits(&pools, &mut holder).await;
    let mut other = pools.system_tx().await.unwrap();
    let free: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM metrics.latest FOR UPDATE SKIP LOCKED) AS free",
    )
    .fetch_one(&mut *other)
    .await
    .unwrap();
    assert_eq!(
        free,
        COUNT as i64 - 1,
        "who waits for the first holds no other"
    );
    drop(other);
    holder.commit().await.unwrap();
    assert_eq!(reporting.await.unwrap(), COUNT);
}

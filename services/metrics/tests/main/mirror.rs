//! The mirror of identity's machines: nothing lost, nothing applied backwards, at once when an event rings.

use std::time::{Duration, Instant};

use contract::event::Event;
use contract::metrics::MachineList;
use dashfleet_metrics::Timing;
use domain::machine::MachineStatus;
use domain::{OrgId, Timestamp};

use crate::main::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_after_a_restart() {
    let mut world = World::with(Timing::default(), 2).await;
    // More than a page of changes, and several organisations.
    for n in 0..450 {
        world.enroll_in(
            if n % 3 == 0 { OrgId::new() } else { world.org },
            &format!("web-{n:03}"),
            &[],
        );
    }
    world.mirrored().await;
    assert_eq!(
        world.count("SELECT count(*) FROM metrics.machines").await,
        450
    );
    assert_eq!(
        world.count("SELECT count(*) FROM metrics.latest").await,
        450
    );
    world.metrics_stop().await;
    let late = world.enroll("late", &[]);
    world.identity.lock().unwrap().asked = 0;
    world.metrics_start();
    world.settle().await;
    world.mirrored().await;
    assert!(
        world.identity.lock().unwrap().asked < 10,
        "it does not begin at the beginning"
    );
    assert_eq!(world.machine(late.machine).await.hostname, "late");
    let page = world
        .list(MachineList {
            limit: 200,
            ..Default::default()
        })
        .await;
    assert_eq!(page.items.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_rings_the_bell() {
    let slow = Timing {
        mirror: Duration::from_secs(3_600),
        ..Timing::default()
    };
    let world = World::with(slow, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    let identity = world.nats.bus("identity").await;
    for (verb, status) in [
        ("enrolled", MachineStatus::Offline),
        ("quarantined", MachineStatus::Quarantined),
        ("released", MachineStatus::Offline),
        ("revoked", MachineStatus::Revoked),
    ] {
        world.machine_changes(enrolled.machine, |record| {
            record.quarantined_at = (verb == "quarantined").then(Timestamp::now);
            record.revoked_at = (verb == "revoked").then(Timestamp::now);
        });
        let version = world.identity.lock().unwrap().change;
        let event = Event {
            id: uuid::Uuid::now_v7(),
            org: world.org,
            noun: "machine".into(),
            verb: verb.into(),
            subject_id: enrolled.machine.0,
            version,
            at: Timestamp::now(),
            data: serde_json::json!({}),
        };
        let rung = Instant::now();
        identity.publish_event(&event).await.unwrap();
        world.becomes(enrolled.machine, status).await;
        assert!(rung.elapsed() < Duration::from_secs(3), "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_change_changes_nothing() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    world.machine_changes(enrolled.machine, |record| {
        record.revoked_at = Some(Timestamp::now());
    });
    world
        .becomes(enrolled.machine, MachineStatus::Revoked)
        .await;
    // As a slow replica would apply it: an old number behind the cursor's back.
    let pools = world.database.pools("metrics");
    let record = contract::identity::MachineRecord {
        change: 1,
        revoked_at: None,
        hostname: "old".into(),
        ..world.identity.lock().unwrap().machines[0].clone()
    };
    let mut tx = pools.system_tx().await.unwrap();
    assert!(
        dashfleet_metrics::store::mirror::apply_in_tx(&mut tx, &[&record])
            .await
            .unwrap()
            .is_empty()
    );
    dashfleet_metrics::store::mirror::set_position_in_tx(&mut tx, 1)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Revoked
    );
    assert_eq!(
        dashfleet_metrics::store::mirror::position(pools.system())
            .await
            .unwrap(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_connected_before_it_was_known_is_online_when_it_is() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    world.identity.lock().unwrap().dumb = true;
    let _agent = world.connect(&enrolled).await;
    let pools = world.database.pools("metrics");
    testkit::eventually("the session is recorded", PATIENCE, || async {
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM metrics.sessions WHERE closed_at IS NULL")
                .fetch_one(pools.system())
                .await
                .unwrap();
        (open == 1).then_some(())
    })
    .await;
    world.identity.lock().unwrap().dumb = false;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
}

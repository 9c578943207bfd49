//! The mirror of identity's machines: nothing lost, nothing applied backwards, at once when an event rings.

use std::time::{Duration, Instant};

use contract::ProblemKind;
use contract::event::Event;
use contract::metrics::{MachineGet, MachineList, MachineSelect};
use dashfleet_metrics::Timing;
use domain::access::Role;
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
        ("edited", MachineStatus::Quarantined),
        ("released", MachineStatus::Offline),
        ("quarantined", MachineStatus::Quarantined),
        ("released", MachineStatus::Offline),
        ("revoked", MachineStatus::Revoked),
    ] {
        world.machine_changes(enrolled.machine, |record| {
            record.quarantined_at = ["edited", "quarantined"]
                .contains(&verb)
                .then(Timestamp::now);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_says_of_a_machine_is_shown_and_chosen_by() {
    let world = World::with(Timing::default(), 2).await;
    let machine = world.enroll("web-1", &[("env", "prod")]).machine;
    world.enroll("web-2", &[("env", "prod")]);
    world.mirrored().await;
    let shown = world.machine(machine).await;
    assert_eq!((shown.display_name, shown.notes), (None, None));
    world.machine_changes(machine, |record| {
        record.display_name = Some("Web server 1".into());
        record.notes = Some("rack 4\ndisk swapped".into());
        record.labels = [("env".into(), "test".into()), ("rack".into(), "r1".into())].into();
    });
    world.mirrored().await;
    let shown = world.machine(machine).await;
    assert_eq!(shown.hostname, "web-1");
    assert_eq!(shown.display_name.as_deref(), Some("Web server 1"));
    assert_eq!(shown.notes.as_deref(), Some("rack 4\ndisk swapped"));
    let action = world.nats.bus("action").await;
    let grant = world.grant(world.org, Role::Viewer);
    for (selector, count) in [
        ("env=test", 1),
        ("rack=r1", 1),
        ("env=prod", 1),
        ("!rack", 1),
    ] {
        let page = world
            .list(MachineList {
                selector: Some(selector.into()),
                limit: 10,
                ..Default::default()
            })
            .await;
        let select = MachineSelect {
            selector: selector.into(),
            limit: 10,
            cursor: None,
        };
        let chosen = action.service_call(&select, Some(&grant), PATIENCE).await;
        let chosen = chosen.unwrap().items;
        let listed: Vec<_> = page.items.iter().map(|item| item.id).collect();
        assert_eq!((listed.len(), &listed), (count, &chosen), "{selector}");
        assert_eq!(
            listed[0] == machine,
            selector.contains("=t") || selector.contains("r1")
        );
    }
    // Away again, and a machine that was never mentioned keeps what it has.
    world.machine_changes(machine, |record| {
        record.display_name = None;
        record.notes = None;
        record.labels.clear();
    });
    world.mirrored().await;
    let shown = world.machine(machine).await;
    assert_eq!(
        (shown.display_name, shown.notes, shown.labels.len()),
        (None, None, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_edited_a_machine_reads_what_was_written() {
    let slow = Timing {
        mirror: Duration::from_secs(3_600),
        ..Timing::default()
    };
    // Nobody rings, and nobody looks for an hour: but for who asks.
    let world = World::with(slow, 2).await;
    let machine = world.enroll("web-1", &[]).machine;
    for n in 0..5 {
        world.machine_changes(machine, |record| record.notes = Some(n.to_string()));
        let change = world.identity.lock().unwrap().change;
        let get = MachineGet {
            machine_id: machine,
            change: Some(change),
        };
        let shown = world.ask(&get).await.unwrap();
        assert_eq!(shown.notes, Some(n.to_string()));
    }
    // Of another organisation there is nothing to wait for.
    let foreign = world.enroll_in(OrgId::new(), "theirs", &[]).machine;
    let get = |machine_id, change| MachineGet {
        machine_id,
        change: Some(change),
    };
    let problem = world.ask(&get(foreign, 1)).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotFound, "{problem}");
    let problem = world.ask(&get(machine, 1_000)).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unavailable, "{problem}");
    world.identity.lock().unwrap().dumb = true;
    let asked = Instant::now();
    let problem = world.ask(&get(machine, 1_001)).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unavailable, "{problem}");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

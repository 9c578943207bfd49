//! Presence as it was: what is told as an event is in the history; days add up; a bad line is damped.

use std::time::Duration;

use contract::metrics::{AvailabilityGet, PresenceHistory};
use dashfleet_metrics::Timing;
use dashfleet_metrics::timing::{Damping, Graces};
use domain::machine::MachineStatus;
use domain::{OrgId, Timestamp};

use crate::main::world::{PATIENCE, World};

fn asked(machine: domain::MachineId, limit: u32, cursor: Option<String>) -> PresenceHistory {
    PresenceHistory {
        machine_id: machine,
        from: Timestamp::now().plus(-chrono::Duration::hours(1)),
        to: Timestamp::now().plus(chrono::Duration::hours(1)),
        limit,
        cursor,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_history_of_its_own_organisation() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    for _ in 0..2 {
        let agent = world.connect(&enrolled).await;
        world.becomes(enrolled.machine, MachineStatus::Online).await;
        agent.leave().await;
        world
            .becomes(enrolled.machine, MachineStatus::Offline)
            .await;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = world
            .ask(&asked(enrolled.machine, 3, cursor))
            .await
            .unwrap();
        seen.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let words: Vec<_> = seen
        .iter()
        .map(|change| (change.online, change.reason.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            (false, "connection lost"),
            (true, "connected"),
            (false, "connection lost"),
            (true, "connected")
        ]
    );
    assert!(seen.windows(2).all(|pair| pair[0].at >= pair[1].at));
    let refused = world
        .ask_in(OrgId::new(), &asked(enrolled.machine, 3, None))
        .await;
    assert_eq!(refused.unwrap_err().kind, contract::ProblemKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_of_a_machine_add_up() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let pools = world.database.pools("metrics");
    sqlx::query("UPDATE metrics.machines SET enrolled_at = '2026-03-01T12:00:00Z' WHERE id = $1")
        .bind(enrolled.machine.0)
        .execute(pools.system())
        .await
        .unwrap();
    for (version, at, online) in [
        (1, "2026-03-01T18:00:00Z", true),
        (2, "2026-03-02T06:00:00Z", false),
        (3, "2026-03-02T06:00:00.250Z", true),
        (4, "2026-03-04T00:00:00Z", false),
    ] {
        sqlx::query("INSERT INTO metrics.presence_changes (org_id, machine_id, version, at, online, reason) VALUES ($1, $2, $3, $4::timestamptz, $5, 'test')")
            .bind(world.org.0)
            .bind(enrolled.machine.0)
            .bind(i64::from(version))
            .bind(at.parse::<Timestamp>().unwrap().utc())
            .bind(online)
            .execute(pools.system())
            .await
            .unwrap();
    }
    let ask = |from: &str, to: &str| {
        let request = AvailabilityGet {
            machine_id: enrolled.machine,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        let world = &world;
        async move { world.ask(&request).await }
    };
    let days = ask("2026-02-20T10:00:00Z", "2026-03-05T00:00:00Z")
        .await
        .unwrap()
        .items;
    let hour = 3_600_000;
    let found: Vec<_> = days
        .iter()
        .map(|day| (day.day.as_str(), day.observed_ms, day.online_ms))
        .collect();
    assert_eq!(
        found,
        [
            ("2026-03-01", 12 * hour, 6 * hour),
            ("2026-03-02", 24 * hour, 24 * hour - 250),
            ("2026-03-03", 24 * hour, 24 * hour),
            ("2026-03-04", 24 * hour, 0),
        ]
    );
    assert_eq!(days[0].percent, 50.0);
    // The state at the beginning of a range comes from before it.
    let days = ask("2026-03-03T00:00:00Z", "2026-03-03T12:00:00Z")
        .await
        .unwrap()
        .items;
    assert_eq!((days.len(), days[0].percent), (1, 100.0));
    let refused = ask("2025-01-01T00:00:00Z", "2026-03-05T00:00:00Z").await;
    assert_eq!(refused.unwrap_err().errors[0].path, "to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_damped() {
    let timing = Timing {
        graces: Graces {
            unstable: Duration::from_secs(8),
            damping: Damping {
                changes: 4,
                within: Duration::from_secs(60),
            },
            ..Timing::default().graces
        },
        ..Timing::default()
    };
    let world = World::with(timing, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    for _ in 0..2 {
        let agent = world.connect(&enrolled).await;
        world.becomes(enrolled.machine, MachineStatus::Online).await;
        agent.leave().await;
        world
            .becomes(enrolled.machine, MachineStatus::Offline)
            .await;
    }
    let agent = world.connect(&enrolled).await;
    let machine = world.becomes(enrolled.machine, MachineStatus::Online).await;
    assert_eq!(
        machine.status_reason.as_deref(),
        Some("connected; it came and went often of late")
    );
    let left = Timestamp::now();
    agent.leave().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Online,
        "longer than the grace of a machine that is stable"
    );
    world
        .becomes(enrolled.machine, MachineStatus::Offline)
        .await;
    // It is shown late; that it was gone counts from when it went.
    let page = world.ask(&asked(enrolled.machine, 1, None)).await.unwrap();
    let last = &page.items[0];
    assert!(!last.online);
    let late = last.at.since(left).num_milliseconds();
    assert!(
        (-100..3_000).contains(&late),
        "dated {late} ms after it went"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_machine_came_and_went_often_is_said_for_as_long_as_it_is_true() {
    let timing = Timing {
        graces: Graces {
            damping: Damping {
                changes: 2,
                within: Duration::from_secs(10),
            },
            ..Timing::default().graces
        },
        ..Timing::default()
    };
    let world = World::with(timing, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    agent.leave().await;
    world
        .becomes(enrolled.machine, MachineStatus::Offline)
        .await;
    let _agent = world.connect(&enrolled).await;
    let machine = world.becomes(enrolled.machine, MachineStatus::Online).await;
    assert_eq!(
        machine.status_reason.as_deref(),
        Some("connected; it came and went often of late")
    );
    testkit::eventually("the window has passed", PATIENCE, || async {
        let machine = world.machine(enrolled.machine).await;
        (machine.status_reason.as_deref() == Some("connected")).then_some(())
    })
    .await;
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Online
    );
}

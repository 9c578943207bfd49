//! Lists of machines: what a selector chooses, in which order, page by page.

use contract::metrics::{MachineList, MachineSort};
use contract::{Problem, ProblemKind};
use dashfleet_metrics::Timing;
use domain::MachineId;
use domain::health::HealthStatus;
use domain::machine::MachineStatus;

use crate::main::world::{World, in_seconds, sample};

fn by(selector: &str) -> MachineList {
    MachineList {
        selector: Some(selector.into()),
        limit: 200,
        ..Default::default()
    }
}

async fn names(world: &World, request: MachineList) -> Vec<String> {
    world
        .list(request)
        .await
        .items
        .into_iter()
        .map(|machine| machine.hostname)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_chooses_as_the_domain_says() {
    let world = World::new().await;
    let machines: &[(&str, &[(&str, &str)])] = &[
        ("a", &[("env", "prod"), ("role", "web")]),
        ("b", &[("env", "prod"), ("role", "db")]),
        ("c", &[("env", "test"), ("role", "web"), ("gpu", "")]),
        ("d", &[]),
    ];
    for (name, labels) in machines {
        world.enroll(name, labels);
    }
    world.mirrored().await;
    for (selector, expected) in [
        ("", "a b c d"),
        ("env=prod", "a b"),
        ("env==prod,role=web", "a"),
        ("env=prod,role!=db", "a"),
        ("role!=db", "a c d"),
        ("role!=db,role!=web", "d"),
        ("gpu", "c"),
        ("gpu=", "c"),
        ("!gpu", "a b d"),
        ("env,!gpu,role!=db", "a"),
        ("!env", "d"),
        ("env=prod,env=test", ""),
        ("env=prod,env=prod", "a b"),
        ("rack=r1", ""),
    ] {
        assert_eq!(
            names(&world, by(selector)).await.join(" "),
            expected,
            "{selector}"
        );
        let chosen: domain::labels::Selector = selector.parse().unwrap();
        let domain: Vec<_> = machines
            .iter()
            .filter(|(_, labels)| {
                chosen.matches(
                    &labels
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                )
            })
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(domain.join(" "), expected, "{selector}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_without_a_gap_in_every_order_also_where_keys_are_equal() {
    let world = World::new().await;
    let enrolled: Vec<_> = (0..11)
        .map(|n| world.enroll(&format!("web-{}", n / 4), &[("n", &n.to_string())]))
        .collect();
    world.mirrored().await;
    // Six have a sample, of two healths: ties in every order.
    for (n, enrolled) in enrolled.iter().take(6).enumerate() {
        let agent = world.connect(enrolled).await;
        agent
            .samples(vec![sample(
                in_seconds(-1),
                if n % 2 == 0 { 100.0 } else { 0.0 },
                0.0,
                0.0,
            )])
            .await
            .unwrap();
    }
    for sort in [
        MachineSort::Hostname,
        MachineSort::HostnameDesc,
        MachineSort::LastSeen,
        MachineSort::LastSeenDesc,
        MachineSort::Health,
        MachineSort::HealthDesc,
    ] {
        let mut request = MachineList {
            sort,
            limit: 4,
            ..Default::default()
        };
        let mut read: Vec<(String, Option<domain::Timestamp>, i32, MachineId)> = Vec::new();
        let mut pages = 0;
        loop {
            let page = world.list(request.clone()).await;
            read.extend(page.items.into_iter().map(|machine| {
                (
                    machine.hostname,
                    machine.last_seen_at,
                    machine.health.map_or(-1, |health| i32::from(health.score)),
                    machine.id,
                )
            }));
            pages += 1;
            request.cursor = page.next_cursor;
            if request.cursor.is_none() {
                break;
            }
        }
        assert_eq!((pages, read.len()), (3, 11), "{sort:?}");
        let ids: std::collections::HashSet<_> = read.iter().map(|machine| machine.3).collect();
        assert_eq!(ids.len(), 11, "{sort:?}");
        let mut sorted = read.clone();
        sorted.sort_by(|left, right| match sort {
            MachineSort::Hostname | MachineSort::HostnameDesc => {
                (&left.0, left.3).cmp(&(&right.0, right.3))
            }
            MachineSort::LastSeen | MachineSort::LastSeenDesc => left.1.cmp(&right.1),
            MachineSort::Health | MachineSort::HealthDesc => {
                (left.2, left.3).cmp(&(right.2, right.3))
            }
        });
        if matches!(
            sort,
            MachineSort::HostnameDesc | MachineSort::LastSeenDesc | MachineSort::HealthDesc
        ) {
            sorted.reverse();
        }
        match sort {
            // Machines never seen are equal, and last-seen times are finer than what is shown.
            MachineSort::LastSeen | MachineSort::LastSeenDesc => assert_eq!(
                read.iter().map(|machine| machine.1).collect::<Vec<_>>(),
                sorted.iter().map(|machine| machine.1).collect::<Vec<_>>()
            ),
            _ => assert_eq!(read, sorted, "{sort:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_health_choose_too() {
    let world = World::new().await;
    let (web, db, old) = (
        world.enroll("web", &[("env", "prod")]),
        world.enroll("db", &[("env", "prod")]),
        world.enroll("old", &[]),
    );
    let agent = world.connect(&web).await;
    agent
        .samples(vec![sample(in_seconds(-1), 75.0, 80.0, 0.0)])
        .await
        .unwrap();
    world.machine_changes(db.machine, |record| {
        record.quarantined_at = Some(in_seconds(0));
    });
    world.machine_changes(old.machine, |record| {
        record.revoked_at = Some(in_seconds(0));
    });
    world.mirrored().await;
    world.becomes(web.machine, MachineStatus::Online).await;
    let status = |status| MachineList {
        status: Some(status),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(names(&world, status(MachineStatus::Online)).await, ["web"]);
    assert_eq!(
        names(&world, status(MachineStatus::Quarantined)).await,
        ["db"]
    );
    assert_eq!(names(&world, status(MachineStatus::Revoked)).await, ["old"]);
    assert_eq!(names(&world, status(MachineStatus::Offline)).await, [""; 0]);
    let health = |health, sort| MachineList {
        health: Some(health),
        sort,
        limit: 10,
        ..Default::default()
    };
    for sort in [
        MachineSort::Hostname,
        MachineSort::LastSeenDesc,
        MachineSort::Health,
    ] {
        assert_eq!(
            names(&world, health(HealthStatus::Warn, sort)).await,
            ["web"]
        );
        assert_eq!(names(&world, health(HealthStatus::Ok, sort)).await, [""; 0]);
    }
    // A revoked machine is revoked, whatever else it is.
    let revoked = world.machine(old.machine).await;
    assert_eq!(revoked.status_reason.as_deref(), Some("revoked"));
    world.machine_changes(db.machine, |record| record.revoked_at = Some(in_seconds(0)));
    world.becomes(db.machine, MachineStatus::Revoked).await;
    world.machine_changes(web.machine, |record| {
        record.quarantined_at = Some(in_seconds(0));
    });
    world.becomes(web.machine, MachineStatus::Quarantined).await;
    world.machine_changes(web.machine, |record| record.quarantined_at = None);
    world.becomes(web.machine, MachineStatus::Online).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_refused_with_the_field() {
    let world = World::with(Timing::default(), 1).await;
    for n in 0..3 {
        world.enroll(&format!("web-{n}"), &[]);
    }
    world.mirrored().await;
    let first = world
        .list(MachineList {
            limit: 1,
            ..Default::default()
        })
        .await;
    let cursor = first.next_cursor.unwrap();
    let wrong = [
        (
            "limit",
            MachineList {
                limit: 0,
                ..Default::default()
            },
        ),
        (
            "limit",
            MachineList {
                limit: 201,
                ..Default::default()
            },
        ),
        ("selector", by("a b")),
        ("selector", by("=x")),
        (
            "cursor",
            MachineList {
                limit: 1,
                cursor: Some("x".into()),
                ..Default::default()
            },
        ),
        (
            "cursor",
            MachineList {
                limit: 1,
                cursor: Some("eyJzb3J0IjoiaG9zdG5hbWUifQ".into()),
                ..Default::default()
            },
        ),
        (
            "cursor",
            MachineList {
                limit: 1,
                cursor: Some(cursor.clone()),
                sort: MachineSort::Health,
                ..Default::default()
            },
        ),
        (
            "cursor",
            MachineList {
                limit: 1,
                cursor: Some(cursor.chars().rev().collect()),
                ..Default::default()
            },
        ),
    ];
    for (path, request) in wrong {
        let problem: Problem = world.ask(&request).await.unwrap_err();
        assert_eq!(
            (problem.kind, problem.errors[0].path.as_str()),
            (ProblemKind::Invalid, path),
            "{request:?}"
        );
    }
    // Far keys that the database's calendar or integers do not have.
    for key in [
        "9223372036854775807",
        "-1",
        "300000000000000000",
        "\"a\\u0000b\"",
        "null",
        "1.5",
    ] {
        for sort in ["hostname", "lastSeen", "health"] {
            use base64::Engine;
            let json = format!(
                "{{\"sort\":\"{sort}\",\"key\":{key},\"id\":\"{}\"}}",
                MachineId::new()
            );
            let cursor = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
            let request = MachineList {
                limit: 1,
                cursor: Some(cursor),
                sort: serde_json::from_value(sort.into()).unwrap(),
                ..Default::default()
            };
            if let Err(problem) = world.ask(&request).await {
                assert_eq!(problem.kind, ProblemKind::Invalid, "{sort} {key}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_machines_ends_early() {
    let world = World::new().await;
    let enrolled: Vec<_> = (0..8)
        .map(|n| world.enroll(&format!("web-{n}"), &[]))
        .collect();
    world.mirrored().await;
    for enrolled in &enrolled {
        let agent = world.connect(enrolled).await;
        let mut large = sample(in_seconds(-1), 1.0, 1.0, 1.0);
        large.disks = (0..400)
            .map(|n| contract::agent::DiskSample {
                mount: format!("/{n}/{}", "x".repeat(400)),
                ..large.disks[0].clone()
            })
            .collect();
        assert_eq!(agent.samples(vec![large]).await.unwrap().refused, 0);
    }
    let mut request = MachineList {
        limit: 200,
        ..Default::default()
    };
    let mut read = Vec::new();
    let mut pages = 0;
    loop {
        let page = world.list(request.clone()).await;
        assert!(serde_json::to_vec(&page).unwrap().len() < 1_200_000);
        read.extend(page.items.into_iter().map(|machine| machine.id));
        pages += 1;
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(
        read,
        enrolled
            .iter()
            .map(|enrolled| enrolled.machine)
            .collect::<Vec<_>>()
    );
}

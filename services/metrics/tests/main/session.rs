//! Sessions: advisories in any order, twice, or to several replicas, come to the same end.

use std::sync::Arc;
use std::time::Duration;

use bus::AgentSender;
use bus::system::{Advisory, SystemBus};
use contract::agent::SampleBatch;
use contract::metrics::{PresenceGet, SERVICE};
use dashfleet_metrics::metrics::Metrics;
use dashfleet_metrics::timing::Graces;
use dashfleet_metrics::{App, Timing};
use database::Relay;
use domain::MachineId;
use runtime::Shutdown;
use serde_json::json;

use crate::main::world::{Enrolled, World, in_seconds, sample};

struct Apps {
    apps: Vec<Arc<App>>,
    shutdown: Shutdown,
}

/// Apps on one database, without anything that runs by itself.
async fn apps(world: &World, count: usize) -> Apps {
    let (mut apps, shutdown) = (Vec::new(), Shutdown::new());
    for _ in 0..count {
        let (bus, system) = (
            world.nats.bus("metrics").await,
            SystemBus::new(world.nats.bus("metrics-sys").await),
        );
        let (app, committers) = App::new(
            world.database.pools(SERVICE),
            bus,
            system,
            Relay::new(),
            Arc::new(Metrics::new().unwrap()),
            world.timing,
        );
        shutdown.spawn(committers);
        apps.push(app);
    }
    apps[0].partitions_maintain().await.unwrap();
    Apps { apps, shutdown }
}

fn advisory(enrolled: &Enrolled, server: &str, cid: u64, start: u32, reason: &str) -> Advisory {
    let user = contract::subject::agent_user(enrolled.org, enrolled.machine);
    let start = format!("2026-01-01T00:00:{start:02}.123456789Z");
    serde_json::from_value(json!({ "server": { "id": server, "name": "s" }, "client": { "id": cid, "user": user, "name_tag": "APP", "start": start }, "reason": reason })).unwrap()
}

async fn online(app: &App, machine: MachineId) -> (bool, i64) {
    let page = app
        .presence_get(PresenceGet {
            after: 0,
            limit: 1_000,
        })
        .await
        .unwrap();
    page.items
        .iter()
        .find(|presence| presence.machine_id == machine)
        .map_or((false, 0), |presence| (presence.online, presence.version))
}

async fn due(world: &World, machine: MachineId) -> Option<f64> {
    let sql = "SELECT extract(epoch FROM offline_due_at - now())::float8 FROM metrics.machines WHERE id = $1";
    sqlx::query_scalar(sql)
        .bind(machine.0)
        .fetch_one(world.database.pools(SERVICE).system())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_before_its_beginning_is_an_end() {
    let world = World::without_metrics(Timing::default()).await;
    let apps = apps(&world, 1).await;
    let app = &apps.apps[0];
    let enrolled = world.enroll("web-1", &[]);
    app.mirror_catch_up().await.unwrap();
    app.session_close(&advisory(&enrolled, "A", 7, 1, "Client Closed"))
        .await;
    app.session_open(&advisory(&enrolled, "A", 7, 1, "")).await;
    assert_eq!(online(app, enrolled.machine).await, (false, 0));
    app.session_open(&advisory(&enrolled, "A", 8, 2, "")).await;
    assert!(online(app, enrolled.machine).await.0);
    // Twice is once.
    app.session_open(&advisory(&enrolled, "A", 8, 2, "")).await;
    assert_eq!(world.count("SELECT count(*) FROM metrics.outbox").await, 1);
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_is_that_of_the_session_that_began_last() {
    let world = World::without_metrics(Timing::default()).await;
    let apps = apps(&world, 1).await;
    let app = &apps.apps[0];
    let cases: &[(&[(u64, u32, &str)], f64)] = &[
        (&[(1, 1, "Client Closed")], 2.0),
        (&[(1, 1, "Stale Connection")], 2.0),
        (&[(1, 1, "Server Shutdown")], 45.0),
        (&[(1, 1, "Authentication Expired")], 45.0),
        (&[(1, 1, "Server Shutdown"), (2, 2, "Client Closed")], 2.0),
        (
            &[(2, 2, "Server Shutdown"), (1, 1, "Stale Connection")],
            45.0,
        ),
    ];
    for (n, (closes, expected)) in cases.iter().enumerate() {
        let enrolled = world.enroll(&format!("web-{n}"), &[]);
        app.mirror_catch_up().await.unwrap();
        for (cid, start, _) in *closes {
            app.session_open(&advisory(&enrolled, "A", *cid, *start, ""))
                .await;
        }
        assert_eq!(due(&world, enrolled.machine).await, None);
        for (cid, start, reason) in *closes {
            assert_eq!(due(&world, enrolled.machine).await, None, "{closes:?}");
            app.session_close(&advisory(&enrolled, "A", *cid, *start, reason))
                .await;
        }
        let waits = due(&world, enrolled.machine).await.unwrap();
        assert!((waits - expected).abs() < 1.0, "{closes:?}: {waits}");
        // It is online until then, and online again without a word if it returns.
        app.session_open(&advisory(&enrolled, "B", 1, 9, "")).await;
        assert_eq!(due(&world, enrolled.machine).await, None);
    }
    assert_eq!(
        world.count("SELECT count(*) FROM metrics.outbox").await,
        cases.len() as i64
    );
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn which_session_began_last_does_not_depend_on_the_servers_clocks() {
    let world = World::without_metrics(Timing::default()).await;
    let apps = apps(&world, 1).await;
    let app = &apps.apps[0];
    let enrolled = world.enroll("web-1", &[]);
    app.mirror_catch_up().await.unwrap();
    // What servers say whose clocks differ: when the connection began, and what time it is now.
    let said = |server: &str, start: u32, now: u32, reason: &str| Advisory {
        server: bus::system::ServerInfo {
            time: Some(format!("2026-01-01T00:00:{now:02}.5Z")),
            ..advisory(&enrolled, server, 1, start, reason).server
        },
        ..advisory(&enrolled, server, 1, start, reason)
    };
    // The machine moves from A to B, whose clock is behind.
    app.session_open(&said("A", 50, 50, "")).await;
    app.session_open(&said("B", 5, 5, "")).await;
    app.session_close(&said("A", 50, 52, "Server Shutdown"))
        .await;
    app.session_close(&said("B", 5, 7, "Client Closed")).await;
    let waits = due(&world, enrolled.machine).await.unwrap();
    assert!((waits - 2.0).abs() < 1.0, "{waits}");
    // An end whose beginning nobody heard, half a minute ago.
    app.session_close(&said("C", 20, 50, "Server Shutdown"))
        .await;
    let waits = due(&world, enrolled.machine).await.unwrap();
    assert!((waits - 2.0).abs() < 1.0, "{waits}");
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_offline_since_before_the_last_sample_that_was_taken() {
    let timing = Timing {
        silence: Duration::ZERO,
        graces: Graces {
            server: Duration::ZERO,
            ..Timing::default().graces
        },
        ..Timing::default()
    };
    let world = World::without_metrics(timing).await;
    let apps = apps(&world, 1).await;
    let app = &apps.apps[0];
    let enrolled = world.enroll("web-1", &[]);
    app.mirror_catch_up().await.unwrap();
    app.session_open(&advisory(&enrolled, "A", 1, 1, "")).await;
    // The servers' news are lost. What the machine sends comes through for a while.
    app.server_lost("A").await.unwrap();
    let from = AgentSender {
        org: enrolled.org,
        machine: enrolled.machine,
    };
    let samples = vec![sample(in_seconds(0), 1.0, 1.0, 1.0)];
    app.sample_report(from, SampleBatch { samples })
        .await
        .unwrap();
    app.offline_due().await.unwrap();
    assert!(!online(app, enrolled.machine).await.0);
    let before = "
        SELECT count(*) FROM metrics.machines m JOIN metrics.latest l ON l.machine_id = m.id
        WHERE m.presence_at < l.last_seen_at OR l.sample_at IS NULL";
    assert_eq!(world.count(before).await, 0);
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_agree_whatever_the_order() {
    let world = World::without_metrics(Timing::default()).await;
    let apps = apps(&world, 3).await;
    let machines: Vec<_> = (0..30)
        .map(|n| world.enroll(&format!("web-{n}"), &[]))
        .collect();
    apps.apps[0].mirror_catch_up().await.unwrap();
    // Each machine has five sessions on two servers; odd machines lose them all, even ones keep the last. What is
    // heard of them is shuffled (by a fixed rule) and shared out to three replicas at once.
    let mut heard = Vec::new();
    for (n, machine) in machines.iter().enumerate() {
        for cid in 1..=5_u32 {
            let server = if cid % 2 == 0 { "A" } else { "B" };
            heard.push(advisory(machine, server, u64::from(cid), cid, ""));
            if n % 2 == 1 || cid < 5 {
                heard.push(advisory(
                    machine,
                    server,
                    u64::from(cid),
                    cid,
                    "Client Closed",
                ));
            }
        }
    }
    let mut seed = 42_u64;
    for index in (1..heard.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        heard.swap(index, (seed >> 33) as usize % (index + 1));
    }
    let told = heard.iter().enumerate().map(|(index, advisory)| {
        let app = apps.apps[index % 3].clone();
        async move {
            if advisory.reason.is_empty() {
                app.session_open(advisory).await;
            } else {
                app.session_close(advisory).await;
            }
        }
    });
    futures::future::join_all(told).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    futures::future::join_all(apps.apps.iter().map(|app| app.offline_due())).await;
    for (n, machine) in machines.iter().enumerate() {
        let (online, version) = online(&apps.apps[n % 3], machine.machine).await;
        assert_eq!(online, n % 2 == 0, "machine {n}");
        // One event for each change, and the versions of a machine grow with them.
        let events: Vec<(String, i64)> = sqlx::query_as(
            "SELECT verb, version FROM metrics.outbox WHERE subject_id = $1 ORDER BY seq",
        )
        .bind(machine.machine.0)
        .fetch_all(world.database.pools(SERVICE).system())
        .await
        .unwrap();
        assert!(
            events
                .windows(2)
                .all(|pair| pair[0].1 < pair[1].1 && pair[0].0 != pair[1].0),
            "{events:?}"
        );
        assert_eq!(events.last().map_or(0, |event| event.1), version);
    }
    let page = apps.apps[0]
        .presence_get(PresenceGet { after: 0, limit: 7 })
        .await
        .unwrap();
    assert!(
        page.more
            && page
                .items
                .windows(2)
                .all(|pair| pair[0].version < pair[1].version)
    );
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_takes_its_sessions_along_and_one_that_is_heard_keeps_them() {
    let timing = Timing {
        silence: Duration::from_secs(1),
        ..Timing::default()
    };
    let world = World::without_metrics(timing).await;
    let apps = apps(&world, 1).await;
    let app = &apps.apps[0];
    let machines: Vec<_> = (0..3)
        .map(|n| world.enroll(&format!("web-{n}"), &[]))
        .collect();
    app.mirror_catch_up().await.unwrap();
    let server = |id: &str| bus::system::ServerInfo {
        id: id.into(),
        name: id.into(),
        time: None,
    };
    for (machine, id) in machines.iter().zip(["A", "B", "C"]) {
        app.session_open(&advisory(machine, id, 1, 1, "")).await;
    }
    app.server_shutdown(&server("A")).await.unwrap();
    let waits = due(&world, machines[0].machine).await.unwrap();
    assert!((waits - 45.0).abs() < 1.0, "{waits}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    app.server_heard(&server("B")).await.unwrap();
    app.server_lost("B").await.unwrap();
    assert_eq!(
        due(&world, machines[1].machine).await,
        None,
        "it was heard meanwhile"
    );
    app.server_lost("C").await.unwrap();
    assert!(due(&world, machines[2].machine).await.is_some());
    assert_eq!(world.count("SELECT count(*) FROM metrics.servers").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM metrics.sessions WHERE inferred")
            .await,
        1
    );
    // Nobody is offline yet: the grace runs.
    app.offline_due().await.unwrap();
    for machine in &machines {
        assert!(online(app, machine.machine).await.0);
    }
    apps.shutdown.begin();
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_no_presence_and_nonsense_no_effect() {
    let world = World::without_metrics(Timing::default()).await;
    let apps = apps(&world, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    let mut service = advisory(&enrolled, "A", 1, 1, "");
    service.client.user = "UCSY53ID3E5RMJPWXI3YP2TK7GEAFJZN53P53GVLSDGYQOPWZTRGL6IK".into();
    apps.apps[0].session_open(&service).await;
    let mut timeless = advisory(&enrolled, "A", 1, 1, "");
    timeless.client.start = "soon".into();
    apps.apps[0].session_open(&timeless).await;
    assert_eq!(
        world.count("SELECT count(*) FROM metrics.sessions").await,
        0
    );
    apps.shutdown.begin();
}

//! Presence with a real nats-server: connections come and go, and machines are online or offline.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::agent::{Noted, Stopping};
use contract::metrics::PresenceGet;
use contract::subject::Up;
use dashfleet_metrics::Timing;
use dashfleet_metrics::timing::Graces;
use domain::SessionId;
use domain::machine::MachineStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::main::world::{Enrolled, PATIENCE, SECOND, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_online_while_connected_and_offline_two_seconds_later() {
    let world = World::with(Timing::default(), 2).await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let mut events = world.hear("df.evt.*.machine.*").await;
    let mut live = world
        .hear(&format!(
            "df.live.{}.machine.{}",
            world.org.token(),
            enrolled.machine.token()
        ))
        .await;
    let agent = world.connect(&enrolled).await;
    let came = events.event().await;
    assert_eq!(
        (
            came.noun.as_str(),
            came.verb.as_str(),
            came.subject_id,
            came.org
        ),
        ("machine", "online", enrolled.machine.0, world.org)
    );
    assert_eq!(
        (&came.data["online"], &came.data["reason"]),
        (&true.into(), &"connected".into())
    );
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(
        (machine.status, machine.status_reason.as_deref()),
        (MachineStatus::Online, Some("connected"))
    );
    assert!(machine.last_seen_at.is_some());
    let dropped = Instant::now();
    agent.leave().await;
    let went = events.event().await;
    let waited = dropped.elapsed();
    assert!(
        (Duration::from_millis(1_900)..Duration::from_millis(4_500)).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(
        (went.verb.as_str(), &went.data["reason"]),
        ("offline", &"connection lost".into())
    );
    assert!(went.version > came.version);
    assert!(
        went.data["since"]
            .as_str()
            .unwrap()
            .parse::<domain::Timestamp>()
            .unwrap()
            > came.at
    );
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(
        (machine.status, machine.status_reason.as_deref()),
        (MachineStatus::Offline, Some("connection lost"))
    );
    for status in ["ONLINE", "OFFLINE"] {
        assert_eq!(live.live().await.1.data["status"], status);
    }
    // What a service that starts is told.
    let action = world.nats.bus("action").await;
    let page = action
        .service_call(
            &PresenceGet {
                after: 0,
                limit: 10,
            },
            None,
            SECOND,
        )
        .await
        .unwrap();
    assert_eq!(
        (
            page.items.len(),
            page.items[0].online,
            page.items[0].version,
            page.more
        ),
        (1, false, went.version, false)
    );
    let page = action
        .service_call(
            &PresenceGet {
                after: went.version,
                limit: 10,
            },
            None,
            SECOND,
        )
        .await
        .unwrap();
    assert!(page.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_returns_within_the_grace_was_never_away() {
    let world = World::with(Timing::default(), 2).await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let mut events = world.hear("df.evt.*.machine.*").await;
    let agent = world.connect(&enrolled).await;
    assert_eq!(events.event().await.verb, "online");
    agent.leave().await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let _agent = world.connect(&enrolled).await;
    events.silence(Duration::from_secs(4)).await;
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Online
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_says_why() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    for reason in ["SIGTERM", "connection lost"] {
        let agent = world.connect(&enrolled).await;
        world.becomes(enrolled.machine, MachineStatus::Online).await;
        if reason == "SIGTERM" {
            let noted: Noted = agent
                .say(
                    Up::Stopping,
                    &Stopping {
                        session_id: SessionId::new(),
                        reason: "SIG\u{0}TERM".into(),
                    },
                )
                .await
                .unwrap();
            assert!(noted.noted);
        }
        agent.leave().await;
        let machine = world
            .becomes(enrolled.machine, MachineStatus::Offline)
            .await;
        // The second time it just went: the farewell was of the life before.
        let expected = if reason == "SIGTERM" {
            "clean stop: SIGTERM"
        } else {
            reason
        };
        assert_eq!(machine.status_reason.as_deref(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_crash_takes_nobody_offline_who_returns() {
    let timing = Timing {
        silence: Duration::from_secs(3),
        reconcile: Duration::from_secs(1),
        ..Timing::default()
    };
    let mut world = World::with(timing, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let agent = world.connect(&enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    world.told().await;
    world.nats.kill_and_restart().await;
    assert!(agent.bus.wait_connected(PATIENCE).await);
    assert!(world.gateway.wait_connected(PATIENCE).await);
    let mut events = world.hear("df.evt.*.machine.*").await;
    let pools = world.database.pools("metrics");
    testkit::eventually("the old server is lost, and the new session is known", PATIENCE, || async {
        let (lost, open): (i64, i64) = sqlx::query_as("SELECT count(*) FILTER (WHERE reason = 'server lost'), count(*) FILTER (WHERE closed_at IS NULL) FROM metrics.sessions").fetch_one(pools.system()).await.unwrap();
        (lost == 1 && open == 1).then_some(())
    })
    .await;
    events.silence(Duration::from_secs(3)).await;
    let machine = world.becomes(enrolled.machine, MachineStatus::Online).await;
    assert_eq!(machine.status_reason.as_deref(), Some("connected"));
    assert_eq!(
        world
            .count("SELECT count(*) FROM metrics.machines WHERE offline_due_at IS NOT NULL")
            .await,
        0
    );
    assert_eq!(
        world
            .count("SELECT max(presence_version) FROM metrics.machines")
            .await,
        1,
        "its presence never changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_return_after_a_servers_crash_is_offline_after_the_long_grace() {
    let graces = Graces {
        server: Duration::from_secs(4),
        ..Timing::default().graces
    };
    let timing = Timing {
        silence: Duration::from_secs(3),
        reconcile: Duration::from_secs(1),
        graces,
        ..Timing::default()
    };
    let mut world = World::with(timing, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    world.nats.kill();
    drop(agent);
    let killed = Instant::now();
    world.nats.launch_again();
    assert!(world.gateway.wait_connected(PATIENCE).await);
    let machine = world
        .becomes(enrolled.machine, MachineStatus::Offline)
        .await;
    assert_eq!(machine.status_reason.as_deref(), Some("server lost"));
    assert!(
        killed.elapsed() > graces.server + timing.silence,
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_heard_the_servers_lists_tell() {
    let mut world = World::new().await;
    let (comes, goes, stays) = (
        world.enroll("comes", &[]),
        world.enroll("goes", &[]),
        world.enroll("stays", &[]),
    );
    world.mirrored().await;
    let (going, _staying) = (world.connect(&goes).await, world.connect(&stays).await);
    world.becomes(goes.machine, MachineStatus::Online).await;
    let before = world.becomes(stays.machine, MachineStatus::Online).await;
    world.metrics_stop().await;
    going.leave().await;
    let _coming = world.connect(&comes).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.metrics_start();
    let started = Instant::now();
    world.settle().await;
    world.becomes(comes.machine, MachineStatus::Online).await;
    let gone = world.becomes(goes.machine, MachineStatus::Offline).await;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(gone.status_reason.as_deref(), Some("connection lost"));
    assert_eq!(
        world.machine(stays.machine).await.status_reason,
        before.status_reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_returned_while_nobody_listened_was_never_away() {
    let mut world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let agent = world.connect(&enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    world.told().await;
    agent.leave().await;
    testkit::eventually("the grace runs", PATIENCE, || async {
        (world
            .count("SELECT count(*) FROM metrics.machines WHERE offline_due_at IS NOT NULL")
            .await
            == 1)
            .then_some(())
    })
    .await;
    world.metrics_stop().await;
    let _agent = world.connect(&enrolled).await;
    let mut events = world.hear("df.evt.*.machine.*").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The grace is over, but a replica that starts asks the servers before it judges.
    world.metrics_start();
    world.settle().await;
    testkit::eventually("the new session is known", PATIENCE, || async {
        (world
            .count("SELECT count(*) FROM metrics.machines WHERE offline_due_at IS NOT NULL")
            .await
            == 0)
            .then_some(())
    })
    .await;
    events.silence(Duration::from_secs(2)).await;
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Online
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_machine_is_offline_within_25_seconds() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let mut frozen = connect_by_hand(&world, &enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    let begun = Instant::now();
    // It does not answer the server's pings; it reads nothing at all.
    let machine = testkit::eventually(
        "the machine is offline",
        Duration::from_secs(25),
        || async {
            let machine = world.machine(enrolled.machine).await;
            (machine.status == MachineStatus::Offline).then_some(machine)
        },
    )
    .await;
    assert_eq!(machine.status_reason.as_deref(), Some("no answer"));
    assert!(begun.elapsed() > Duration::from_secs(10));
    // It was last heard when it connected: since then it counts as away, and not since that was noticed.
    let away =
        "SELECT round(extract(epoch FROM now() - presence_at))::bigint FROM metrics.machines";
    assert!(world.count(away).await >= 9);
    let mut rest = String::new();
    drop(frozen.read_to_string(&mut rest).await);
    assert!(rest.contains("Stale Connection"), "{rest}");
}

/// A connection that does nothing by itself: `INFO` is read, `CONNECT` and one `PING` are sent.
async fn connect_by_hand(world: &World, enrolled: &Enrolled) -> TcpStream {
    let mut stream = TcpStream::connect(world.nats.url().trim_start_matches("nats://"))
        .await
        .unwrap();
    let mut info = vec![0; 4_096];
    let length = stream.read(&mut info).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(
        std::str::from_utf8(&info[..length])
            .unwrap()
            .trim()
            .strip_prefix("INFO ")
            .unwrap(),
    )
    .unwrap();
    let signature = enrolled
        .key
        .sign(info["nonce"].as_str().unwrap().as_bytes())
        .unwrap();
    let connect = serde_json::json!({ "verbose": false, "pedantic": false, "lang": "hand", "version": "0", "protocol": 1,
        "nkey": enrolled.key.public_key(), "sig": URL_SAFE_NO_PAD.encode(signature) });
    stream
        .write_all(format!("CONNECT {connect}\r\nPING\r\n").as_bytes())
        .await
        .unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_that_shows_again_has_its_sessions_again() {
    let timing = Timing {
        reconcile: Duration::from_secs(1),
        ..Timing::default()
    };
    let world = World::with(timing, 1).await;
    let enrolled = world.enroll("web-1", &[]);
    let _agent = world.connect(&enrolled).await;
    world.becomes(enrolled.machine, MachineStatus::Online).await;
    // As if the server had been cut off from us for a while: its sessions were ended by inference.
    let pools = world.database.pools("metrics");
    let ended = "UPDATE metrics.sessions SET closed_at = now(), closed_by = 'SERVER', reason = 'server lost', inferred = true";
    assert_eq!(
        sqlx::query(ended)
            .execute(pools.system())
            .await
            .unwrap()
            .rows_affected(),
        1
    );
    testkit::eventually("the session is open again", PATIENCE, || async {
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM metrics.sessions WHERE closed_at IS NULL")
                .fetch_one(pools.system())
                .await
                .unwrap();
        (open == 1).then_some(())
    })
    .await;
    assert_eq!(
        world.machine(enrolled.machine).await.status,
        MachineStatus::Online
    );
}

//! What each operation asks its owner, and how it shows the answer.

use std::net::IpAddr;

use contract::metrics::MachineSort;
use domain::Timestamp;
use domain::action::ActionStatus;
use domain::health::HealthStatus;
use domain::machine::MachineStatus;
use serde_json::{Value, json};

use crate::messages;
use crate::standin::{DELIVERED, HERE};
use crate::world::World;

const ACTIONS: &str = "/api/v1/actions";

fn ping() -> Value {
    json!({ "machineId": HERE, "kind": "ping", "payload": {} })
}

#[tokio::test]
async fn an_action_is_created_and_shown_as_its_owner_made_it() {
    let world = World::new().await;
    let body = json!({
        "machineId": HERE, "kind": "message", "payload": { "message": "hello" },
        "notAfter": "2030-01-01T00:00:00.5+01:00", "idempotent": true,
    });
    let reply = world
        .send(
            "POST",
            ACTIONS,
            &[("idempotency-key", b"once")],
            body.to_string(),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    let action = reply.json();
    assert_eq!(
        reply.header("location"),
        format!("{ACTIONS}/{}", action["id"].as_str().unwrap())
    );
    assert_eq!(action["machineId"], HERE);
    assert_eq!(action["status"], "QUEUED");
    assert_eq!(action["createdAt"], "2026-01-09T23:52:38.548Z");
    assert!(
        action.get("result").is_none() && action.get("startedAt").is_none(),
        "{action}"
    );

    let asked = world.actions.created.lock().unwrap().pop().unwrap();
    assert_eq!(asked.idempotency_key.as_deref(), Some("once"));
    assert_eq!(
        asked.not_after.unwrap().to_string(),
        "2029-12-31T23:00:00.500Z"
    );
    assert!(asked.idempotent);
    // The owner takes the organisation from the grant, and from nowhere else.
    assert!(
        world
            .actions
            .organizations
            .lock()
            .unwrap()
            .contains(&world.identity.org)
    );
}

#[tokio::test]
async fn the_same_key_and_body_give_the_same_action_and_another_body_a_conflict() {
    let world = World::new().await;
    let key: [(&str, &[u8]); 1] = [("idempotency-key", b"k-1")];
    let first = world.send("POST", ACTIONS, &key, ping().to_string()).await;
    let second = world.send("POST", ACTIONS, &key, ping().to_string()).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json()["id"], second.json()["id"]);
    let other = json!({ "machineId": HERE, "kind": "restart", "payload": {} });
    assert_eq!(
        world
            .send("POST", ACTIONS, &key, other.to_string())
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn bodies_are_taken_however_json_may_be_named() {
    let world = World::new().await;
    for content_type in [
        "",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/merge-patch+json",
    ] {
        let headers: [(&str, &[u8]); 1] = [("content-type", content_type.as_bytes())];
        let reply = world
            .send("POST", ACTIONS, &headers, ping().to_string())
            .await;
        assert_eq!(reply.status, 201, "{content_type}: {}", reply.text);
    }
    let full = json!({ "machineId": HERE, "kind": "message", "payload": { "message": "x".repeat(4_000) } });
    let padded = format!("{}{full}", " ".repeat(1024 * 1024 - full.to_string().len()));
    assert_eq!(
        world.send("POST", ACTIONS, &[], padded).await.status,
        201,
        "a body of exactly a megabyte"
    );
}

#[tokio::test]
async fn actions_are_got_listed_and_cancelled() {
    let world = World::new().await;
    let reply = world.get(&format!("{ACTIONS}/{HERE}")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["result"]["shownOn"][0], "tty1");
    // 32 digits are the same id.
    assert_eq!(
        world
            .get(&format!("{ACTIONS}/{}", HERE.replace('-', "")))
            .await
            .json()["id"],
        HERE
    );

    let reply = world
        .get(&format!(
            "{ACTIONS}?machineId={HERE}&status=FAILED&limit=7&cursor=c"
        ))
        .await;
    assert_eq!(reply.json()["nextCursor"], "next");
    assert_eq!(
        world.get(&format!("{ACTIONS}?status=&limit=")).await.status,
        200
    );
    {
        let listed = world.actions.listed.lock().unwrap();
        assert_eq!(listed[0].machine_id.unwrap().to_string(), HERE);
        assert_eq!(
            (listed[0].status, listed[0].limit),
            (Some(ActionStatus::Failed), 7)
        );
        assert_eq!(listed[0].cursor.as_deref(), Some("c"));
        assert_eq!(
            (listed[1].status, listed[1].limit, &listed[1].cursor),
            (None, 50, &None)
        );
    }

    let reply = world
        .send("POST", &format!("{ACTIONS}/{HERE}/cancel"), &[], "")
        .await;
    assert_eq!(
        (reply.status, reply.json()["status"].as_str()),
        (200, Some("CANCELLED"))
    );
    let reply = world
        .send("POST", &format!("{ACTIONS}/{DELIVERED}/cancel"), &[], "{}")
        .await;
    assert_eq!(
        (reply.status, reply.json()["status"].as_str()),
        (202, Some("DELIVERED"))
    );
}

#[tokio::test]
async fn machines_are_chosen_sorted_and_shown() {
    let world = World::new().await;
    let reply = world
        .get("/api/v1/machines?selector=env%3Dprod%2Crole%21%3Ddb&status=ONLINE&health=WARN&sort=-lastSeen&limit=200&cursor=c")
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let machine = &reply.json()["items"][0];
    assert_eq!(machine["inventory"]["os"], "Debian GNU/Linux");
    assert_eq!(machine["latestSample"]["disks"][0]["total"], u64::MAX);
    assert_eq!(machine["latestSample"]["at"], "2026-01-09T23:52:38.548Z");
    assert!(reply.json().get("nextCursor").is_none());
    {
        let asked = world.metrics.machines.lock().unwrap();
        assert_eq!(asked[0].selector.as_deref(), Some("env=prod,role!=db"));
        assert_eq!(
            (asked[0].status, asked[0].health),
            (Some(MachineStatus::Online), Some(HealthStatus::Warn))
        );
        assert_eq!(
            (asked[0].sort, asked[0].limit),
            (MachineSort::LastSeenDesc, 200)
        );
    }
    for (word, sort) in [
        ("hostname", MachineSort::Hostname),
        ("-hostname", MachineSort::HostnameDesc),
        ("lastSeen", MachineSort::LastSeen),
        ("health", MachineSort::Health),
        ("-health", MachineSort::HealthDesc),
        ("", MachineSort::Hostname),
    ] {
        assert_eq!(
            world
                .get(&format!("/api/v1/machines?sort={word}"))
                .await
                .status,
            200
        );
        assert_eq!(
            world.metrics.machines.lock().unwrap().last().unwrap().sort,
            sort,
            "{word}"
        );
    }
    assert_eq!(
        world.get(&format!("/api/v1/machines/{HERE}")).await.json()["id"],
        HERE
    );
    let head = world
        .send("HEAD", &format!("/api/v1/machines/{HERE}"), &[], "")
        .await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn samples_are_of_the_last_hour_unless_asked_otherwise() {
    let world = World::new().await;
    let path = format!("/api/v1/machines/{HERE}/samples");
    let before = Timestamp::now();
    assert_eq!(
        world.get(&path).await.json()["items"][0]["uptimeSeconds"],
        86_400
    );
    let asked = world.metrics.samples.lock().unwrap().pop().unwrap();
    assert!(asked.to >= before && asked.to <= Timestamp::now());
    assert_eq!(asked.to.since(asked.from).num_minutes(), 60);
    assert_eq!(
        world
            .get(&format!(
                "{path}?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&limit=1"
            ))
            .await
            .status,
        200
    );
    let asked = world.metrics.samples.lock().unwrap().pop().unwrap();
    assert_eq!(
        (asked.from.to_string().as_str(), asked.limit),
        ("2026-01-01T00:00:00.000Z", 1)
    );
    // The hour before a `to` in the past.
    assert_eq!(
        world
            .get(&format!("{path}?to=2026-01-02T00:00:00Z"))
            .await
            .status,
        200
    );
    let asked = world.metrics.samples.lock().unwrap().pop().unwrap();
    assert_eq!(asked.from.to_string(), "2026-01-01T23:00:00.000Z");
}

#[tokio::test]
async fn machines_are_revoked_and_released() {
    let world = World::new().await;
    let reply = world
        .send("DELETE", &format!("/api/v1/machines/{HERE}"), &[], "")
        .await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    let release = format!("/api/v1/machines/{HERE}/release");
    for body in ["", "{}", r#"{"accept":"KNOWN"}"#] {
        let reply = world.send("POST", &release, &[], body).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{body}");
    }
    // The owner hears what is to be accepted.
    let reply = world
        .send("POST", &release, &[], r#"{"accept":"NEW"}"#)
        .await;
    assert_eq!(reply.status, 409, "{}", reply.text);
    let reply = world
        .send("POST", &release, &[], r#"{"accept":"ANY"}"#)
        .await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["accept".to_owned()])
    );
}

#[tokio::test]
async fn people_log_in_and_agents_enrol_without_a_credential() {
    let world = World::with(
        crate::world::patience(),
        &[("DASHFLEET_TRUSTED_PROXIES", "127.0.0.0/8")],
    )
    .await;
    let open = |extra: (&'static str, &'static [u8])| [("authorization", b"" as &[u8]), extra];
    let login = json!({ "email": "a@b", "password": "right" }).to_string();
    let reply = world
        .send(
            "POST",
            "/api/v1/auth/login",
            &open(("x-forwarded-for", b"198.51.100.7")),
            login.clone(),
        )
        .await;
    assert_eq!(
        reply.json(),
        json!({ "accessToken": "dfa_good", "refreshToken": "dfr_good", "expiresIn": 900 })
    );
    world
        .send(
            "POST",
            "/api/v1/auth/login",
            &open(("accept", b"*/*")),
            login,
        )
        .await;
    let addresses: Vec<IpAddr> = world
        .identity
        .addresses
        .lock()
        .unwrap()
        .iter()
        .map(|a| a.parse().unwrap())
        .collect();
    assert_eq!(
        addresses,
        [
            IpAddr::from([198, 51, 100, 7]),
            IpAddr::from([127, 0, 0, 1])
        ]
    );

    let refresh = json!({ "refreshToken": "dfr_good" }).to_string();
    assert_eq!(
        world
            .send(
                "POST",
                "/api/v1/auth/refresh",
                &open(("accept", b"*/*")),
                refresh
            )
            .await
            .status,
        200
    );
    let reply = world
        .send(
            "POST",
            "/api/v1/agents/enroll/challenge",
            &open(("accept", b"*/*")),
            "",
        )
        .await;
    assert_eq!(reply.json()["challenge"], "opaque");
    let inventory = serde_json::to_value(messages::machine().inventory).unwrap();
    let enroll = json!({
        "token": "dfe_good", "challenge": "c", "publicKey": "U", "signature": "s", "hostname": "h",
        "inventory": inventory, "labels": { "env": "prod" },
    });
    let reply = world
        .send(
            "POST",
            "/api/v1/agents/enroll",
            &open(("accept", b"*/*")),
            enroll.to_string(),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.json()["natsUrls"][0], "nats://127.0.0.1:4222");

    let standing = json!({ "challenge": "c", "publicKey": "U", "signature": "good" }).to_string();
    let reply = world
        .send(
            "POST",
            "/api/v1/agents/standing",
            &open(("accept", b"*/*")),
            standing,
        )
        .await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({ "standing": "REVOKED" }))
    );

    let reply = world.get("/api/v1/auth/me").await;
    assert_eq!(
        reply.json()["organizationId"],
        world.identity.org.to_string()
    );
    assert_eq!(reply.json()["role"], "OWNER");
}

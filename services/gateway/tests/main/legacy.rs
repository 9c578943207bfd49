//! The routes of Dash-Fleet: their shapes, their refusals, their limits.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::standin::{ELSEWHERE, HERE};
use crate::world::{Reply, World, patience};

const KEY: &str = "dfl_good";
const REPORT: &str = "/api/fleet/report";
const FLEET: &str = "/api/fleet";
const QUEUE: &str = "/api/actions/queue";
const PENDING: &str = "/api/actions/pending";
const RESULT: &str = "/api/actions/report";

async fn send(world: &World, key: &str, method: &str, path: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_bytes())];
    world.send(method, path, &headers, body.to_owned()).await
}

async fn post(world: &World, path: &str, body: &Value) -> Reply {
    send(world, KEY, "POST", path, &body.to_string()).await
}

async fn get(world: &World, path: &str) -> Reply {
    send(world, KEY, "GET", path, "").await
}

fn report(machine: &str) -> Value {
    json!({ "machine_id": machine, "report": { "cpu_percent": 12.5, "ram_percent": 40, "disk_percent": 71 } })
}

/// A refusal in Dash-Fleet's shape, and nothing else in it.
fn said(reply: &Reply) -> String {
    let document = reply.json();
    assert_eq!(document.as_object().unwrap().len(), 1, "{document}");
    assert_eq!(reply.header("content-type"), "application/json");
    document["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_route_answers_as_dash_fleet_did() {
    let world = World::new().await;
    // The space around a name is no part of it.
    let reply = post(&world, REPORT, &report(" web 1 ")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let org = world.identity.org.to_string();
    assert_eq!(
        reply.json(),
        json!({ "status": "success", "ok": true, "machine_id": "web 1", "org_id": org })
    );
    let mut second = report("db");
    second["report"]["cpu_percent"] = json!(100);
    post(&world, REPORT, &second).await;

    let fleet = get(
        &world,
        &format!("{FLEET}?sort_by=cpu_percent&filter_status="),
    )
    .await
    .json();
    assert_eq!((&fleet["count"], &fleet["expired"]), (&json!(2), &json!(0)));
    assert_eq!(fleet["machines"], fleet["data"]);
    let machine = &fleet["machines"][0];
    assert_eq!(machine["id"], format!("{org}:db"));
    assert_eq!(machine["health"]["status"], "warn");
    assert_eq!(machine["client"], "127.0.0.1");
    let filtered = get(&world, &format!("{FLEET}?filter_status=ok"))
        .await
        .json();
    assert_eq!(filtered["machines"][0]["machine_id"], "web 1");
    assert_eq!(filtered["count"], 1);

    let queued =
        json!({ "machine_id": "web 1", "action_type": "message", "data": { "message": "hi" } });
    let reply = post(&world, QUEUE, &queued).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert!(reply.json()["ok"] == true && reply.json()["action_id"].is_string());
    assert_eq!(world.actions.legacy_queued.lock().unwrap()[0].name, "web 1");

    let reply = get(&world, &format!("{PENDING}?machine_id=web%201")).await;
    assert_eq!(
        reply.json(),
        json!({ "actions": [{ "action_id": HERE, "attempt": 1, "type": "reboot", "data": { "delay_seconds": 5 } }] })
    );
    let result = json!({ "action_id": HERE, "status": "done", "result": "shown" });
    let reply = post(&world, RESULT, &result).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "ok": true })));
    assert!(world.actions.legacy_results.lock().unwrap()[0].done);
}

#[tokio::test]
async fn a_key_that_is_missing_wrong_of_another_kind_or_from_elsewhere_is_403() {
    let world = World::new().await;
    let calls = [
        ("POST", REPORT),
        ("GET", FLEET),
        ("POST", QUEUE),
        ("GET", PENDING),
        ("POST", RESULT),
    ];
    for (method, path) in calls {
        for key in ["dfl_wrong", "wrong", "", "dfk_good", "dfl_good_elsewhere"] {
            let reply = send(&world, key, method, path, "{}").await;
            assert_eq!(reply.status, 403, "{key} {method} {path}: {}", reply.text);
            assert!(!said(&reply).is_empty());
        }
        let reply = world
            .send(method, path, &[("authorization", b"".as_slice())], "{}")
            .await;
        assert_eq!(reply.status, 403, "{method} {path}");
        said(&reply);
    }
    // And a legacy key opens nothing else.
    for path in ["/api/v1/machines", "/api/v1/auth/me"] {
        let reply = get(&world, path).await;
        assert_eq!(reply.status, 403, "{path}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn what_is_wrong_is_400_and_named() {
    let world = World::new().await;
    let with = |name: &str, value: Value| {
        let mut body = report("web");
        body["report"][name] = value;
        body
    };
    for (path, body, named) in [
        (REPORT, json!([]), "body"),
        (REPORT, json!({ "report": {} }), "machine_id: is required"),
        (
            REPORT,
            json!({ "machine_id": 7 }),
            "machine_id: must be a text",
        ),
        (
            REPORT,
            json!({ "machine_id": "web" }),
            "report: is required",
        ),
        (
            REPORT,
            with("disk_percent", Value::Null),
            "report.disk_percent: is required",
        ),
        (
            REPORT,
            with("ram_percent", json!("9")),
            "report.ram_percent: must be a number",
        ),
        (
            REPORT,
            with("cpu_percent", json!(101)),
            "report.cpu_percent",
        ),
        (
            QUEUE,
            json!({ "machine_id": "web" }),
            "action_type: is required",
        ),
        (
            QUEUE,
            json!({ "machine_id": "web", "action_type": "message", "data": {} }),
            "data.message: is required",
        ),
        (
            RESULT,
            json!({ "action_id": "x", "status": "done" }),
            "action_id",
        ),
        (
            RESULT,
            json!({ "action_id": HERE, "status": "DONE" }),
            "status: must be done or error",
        ),
    ] {
        let reply = post(&world, path, &body).await;
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text);
        assert!(said(&reply).contains(named), "{named}: {}", reply.text);
    }
    let reply = send(&world, KEY, "POST", REPORT, "{\"machine_id\":").await;
    assert!(reply.status == 400 && said(&reply).contains("malformed JSON"));
    for (path, status) in [
        (PENDING.to_owned(), 400),
        (format!("{FLEET}?sort_by=colour"), 400),
        (format!("{FLEET}?filter_status=blue"), 400),
    ] {
        let reply = get(&world, &path).await;
        assert_eq!(reply.status, status, "{path}");
        said(&reply);
    }
    let large = format!("{{\"machine_id\":\"{}\"}}", "x".repeat(70_000));
    let reply = send(&world, KEY, "POST", REPORT, &large).await;
    assert_eq!(reply.status, 413);
    said(&reply);
}

#[tokio::test]
async fn an_owners_refusal_keeps_its_status_and_another_method_is_405() {
    let world = World::new().await;
    let reply = post(&world, REPORT, &report("quarantined")).await;
    assert_eq!(reply.status, 403);
    assert!(said(&reply).contains("quarantined"));
    let nobody = json!({ "machine_id": "nobody", "action_type": "restart" });
    assert_eq!(post(&world, QUEUE, &nobody).await.status, 404);
    let unknown = json!({ "action_id": ELSEWHERE, "status": "error", "result": null });
    assert_eq!(post(&world, RESULT, &unknown).await.status, 404);
    let reply = get(&world, REPORT).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    said(&reply);
}

#[tokio::test]
async fn beyond_its_limit_a_route_answers_429_with_the_headers() {
    let world = World::new().await;
    for (path, body, limit) in [
        (REPORT.to_owned(), Some(report("web")), 30),
        (FLEET.to_owned(), None, 100),
        (
            QUEUE.to_owned(),
            Some(json!({ "machine_id": "web", "action_type": "restart" })),
            100,
        ),
        (format!("{PENDING}?machine_id=web"), None, 60),
        (
            RESULT.to_owned(),
            Some(json!({ "action_id": HERE, "status": "done" })),
            60,
        ),
    ] {
        for left in (0..limit).rev() {
            let reply = match &body {
                Some(body) => post(&world, &path, body).await,
                None => get(&world, &path).await,
            };
            assert!(
                reply.status < 300,
                "{path}: {} {}",
                reply.status,
                reply.text
            );
            assert_eq!(reply.header("x-ratelimit-limit"), limit.to_string());
            assert_eq!(reply.header("x-ratelimit-remaining"), left.to_string());
        }
        let reply = match &body {
            Some(body) => post(&world, &path, body).await,
            None => get(&world, &path).await,
        };
        assert_eq!(reply.status, 429, "{path}");
        assert_eq!(reply.header("x-ratelimit-remaining"), "0");
        let now = domain::Timestamp::now().millis() / 1_000;
        let reset: i64 = reply.header("x-ratelimit-reset").parse().unwrap();
        assert!((now..=now + 61).contains(&reset), "{reset}");
        let after: i64 = reply.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
        said(&reply);
    }
    // Another machine behind the same address and key does not wait for this one.
    assert_eq!(post(&world, REPORT, &report("other")).await.status, 200);
}

#[tokio::test]
async fn reports_of_different_actions_do_not_wait_for_each_other() {
    let world = World::new().await;
    let done = |action: &str| json!({ "action_id": action, "status": "done" });
    // A hundred machines behind one address: none executes its action again because the others reported theirs.
    for _ in 0..100 {
        let action = domain::ActionId::new().to_string();
        let reply = post(&world, RESULT, &done(&action)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.header("x-ratelimit-remaining"), "59");
    }
    assert_eq!(world.actions.legacy_results.lock().unwrap().len(), 100);
    // What names none is counted as one.
    for _ in 0..60 {
        assert_eq!(post(&world, RESULT, &json!({})).await.status, 400);
    }
    assert_eq!(post(&world, RESULT, &json!({})).await.status, 429);
    assert_eq!(post(&world, RESULT, &done(HERE)).await.status, 200);
}

#[tokio::test]
async fn a_fleet_that_is_too_long_for_one_list_says_that_there_is_more() {
    let world = World::new().await;
    assert_eq!(get(&world, FLEET).await.json()["truncated"], false);
    for (pages, truncated) in [(10, false), (11, true)] {
        world.metrics.legacy_pages.store(pages, Ordering::SeqCst);
        let fleet = get(&world, FLEET).await.json();
        assert_eq!(
            (&fleet["count"], &fleet["truncated"]),
            (&json!(10_000), &json!(truncated))
        );
    }
}

#[tokio::test]
async fn behind_a_proxy_that_nobody_told_of_no_machine_is_bound_to_it() {
    let trusted = [("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1")];
    let world = World::with(patience(), &trusted).await;
    let bearer = format!("Bearer {KEY}");
    let through = async |forwarded: &str, method: &str, path: &str, body: &Value| {
        let headers = [
            ("authorization", bearer.as_bytes()),
            ("x-forwarded-for", forwarded.as_bytes()),
        ];
        world.send(method, path, &headers, body.to_string()).await
    };
    let result = json!({ "action_id": HERE, "status": "done" });
    let pending = format!("{PENDING}?machine_id=web");
    let unknown = "198.51.100.7, 10.1.2.3";
    for (method, path, body) in [
        ("POST", REPORT, &report("web")),
        ("GET", pending.as_str(), &Value::Null),
        ("POST", RESULT, &result),
    ] {
        let reply = through(unknown, method, path, body).await;
        assert_eq!(reply.status, 503, "{path}: {}", reply.text);
        assert!(said(&reply).contains("DASHFLEET_TRUSTED_PROXIES"));
    }
    assert!(world.metrics.legacy_reports.lock().unwrap().is_empty());
    // Scripts of operators are not known by where they come from; nor is a machine refused that is there itself.
    assert_eq!(
        through(unknown, "GET", FLEET, &Value::Null).await.status,
        200
    );
    for alone in ["10.1.2.3", "198.51.100.7"] {
        let reply = through(alone, "POST", REPORT, &report("web")).await;
        assert_eq!(reply.status, 200, "{alone}: {}", reply.text);
    }
}

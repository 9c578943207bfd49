//! Jobs and executions over HTTP: what the scheduler is asked, and what the client sees.

use domain::access::Role;
use serde_json::{Value, json};

use crate::standin::{DELIVERED, ELSEWHERE, ENDED, HERE, SLOW};
use crate::world::World;

const JOBS: &str = "/api/v1/jobs";
const EXECUTIONS: &str = "/api/v1/executions";
const SETTINGS: &str = "/api/v1/execution-settings";

fn asked(world: &World, call: &str) -> Value {
    let (last, message) = world.scheduler.last();
    assert_eq!(last, call);
    message
}

#[tokio::test]
async fn a_job_is_made_shown_and_removed() {
    let world = World::new().await;
    let body = json!({
        "name": "Nightly sync", "handler": "builtin/sleep", "config": { "ms": 100 }, "priority": -5,
        "rate": { "max": 10, "perMs": 1_000 },
    });
    let key: [(&str, &[u8]); 1] = [("idempotency-key", b"once")];
    let reply = world.send("POST", JOBS, &key, body.to_string()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let job = reply.json();
    assert_eq!(job["name"], "Nightly sync");
    assert_eq!(
        reply.header("location"),
        format!("{JOBS}/{}", job["id"].as_str().unwrap())
    );
    let mut expected = body.clone();
    expected["description"] = json!("");
    expected["idempotencyKey"] = json!("once");
    assert_eq!(asked(&world, "job.create"), expected);

    let reply = world
        .get(&format!("{JOBS}?enabled=false&limit=7&cursor=c"))
        .await;
    assert_eq!(reply.json()["nextCursor"], "next");
    assert_eq!(
        asked(&world, "job.list"),
        json!({ "enabled": false, "limit": 7, "cursor": "c" })
    );
    assert_eq!(
        world.get(&format!("{JOBS}/{HERE}")).await.json()["id"],
        HERE
    );
    assert_eq!(world.get(&format!("{JOBS}/{ELSEWHERE}")).await.status, 404);
    let reply = world
        .send("DELETE", &format!("{JOBS}/{HERE}"), &[], "")
        .await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert_eq!(asked(&world, "job.delete"), json!({ "jobId": HERE }));
}

#[tokio::test]
async fn a_patch_of_a_job_says_set_take_away_or_leave() {
    let world = World::new().await;
    let path = format!("{JOBS}/{HERE}");
    for body in [
        json!({}),
        json!({ "rate": null, "concurrency": null, "description": null, "config": null, "pool": null, "timeout": null }),
        json!({ "rate": { "max": 1, "perMs": 100 }, "config": { "ms": null }, "name": "b", "paused": true, "priority": 7 }),
    ] {
        let reply = world.send("PATCH", &path, &[], body.to_string()).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
        let mut expected = body.clone();
        expected["jobId"] = json!(HERE);
        assert_eq!(asked(&world, "job.edit"), expected);
    }
    for (method, word, field, value) in [
        ("PUT", "enable", "enabled", true),
        ("POST", "enable", "enabled", true),
        ("PUT", "disable", "enabled", false),
        ("POST", "disable", "enabled", false),
        ("POST", "pause", "paused", true),
        ("POST", "resume", "paused", false),
    ] {
        let reply = world.send(method, &format!("{path}/{word}"), &[], "").await;
        assert_eq!(reply.status, 200, "{word}: {}", reply.text);
        assert_eq!(reply.json()[field], value);
        assert_eq!(
            asked(&world, "job.edit"),
            json!({ "jobId": HERE, field: value })
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_named() {
    let world = World::new().await;
    let good = json!({ "name": "a", "handler": "builtin/noop" });
    for (field, value, path) in [
        ("name", json!(""), "name"),
        ("name", json!("x".repeat(201)), "name"),
        ("handler", json!(7), "handler"),
        ("config", json!([]), "config"),
        ("priority", json!(70_000), "priority"),
        ("timeout", json!(99), "timeout"),
        ("retries", json!(26), "retries"),
        ("concurrency", json!(0), "concurrency"),
        ("rate", json!({ "max": 1 }), "rate.perMs"),
        ("rate", json!({ "max": 0, "perMs": 100 }), "rate.max"),
        ("rates", json!(1), "rates"),
        ("idempotencyKey", json!("x"), "idempotencyKey"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let reply = world.post(JOBS, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert_eq!(reply.paths(), [path], "{body}");
        if !["name", "handler", "idempotencyKey"].contains(&field) {
            let patch = json!({ field: body[field].clone() });
            let reply = world
                .send("PATCH", &format!("{JOBS}/{HERE}"), &[], patch.to_string())
                .await;
            assert_eq!((reply.status, reply.paths()), (400, vec![path.to_owned()]));
        }
    }
    assert!(world.scheduler.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_execution_is_asked_for_and_shown_with_its_id_twice() {
    let world = World::new().await;
    let path = format!("{JOBS}/{HERE}/execute");
    let reply = world.send("POST", &path, &[], "").await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let execution = reply.json();
    assert_eq!(execution["id"], execution["executionId"]);
    assert!(execution.get("duplicate").is_none(), "{execution}");
    assert_eq!(
        reply.header("location"),
        format!("{EXECUTIONS}/{}", execution["id"].as_str().unwrap())
    );
    assert_eq!(asked(&world, "job.execute"), json!({ "jobId": HERE }));
    let order = json!({
        "config": { "ms": 5 }, "priority": 9, "runAt": "2030-01-01T00:00:00.000Z", "deduplicationKey": "a", "concurrencyKey": "b",
    });
    let key: [(&str, &[u8]); 1] = [("idempotency-key", b"once")];
    let reply = world.send("POST", &path, &key, order.to_string()).await;
    assert_eq!(reply.json()["duplicate"], true);
    let mut expected = order;
    expected["jobId"] = json!(HERE);
    expected["idempotencyKey"] = json!("once");
    assert_eq!(asked(&world, "job.execute"), expected);
    let wrong = json!({ "deduplicationKey": "", "runAt": "tomorrow" });
    assert_eq!(
        world.post(&path, &wrong).await.paths(),
        ["runAt", "deduplicationKey"]
    );

    let slow = format!("{JOBS}/{SLOW}/execute");
    let reply = world.post(&slow, &json!({})).await;
    assert_eq!(reply.status, 503);
    assert!(reply.text.contains("look whether the execution exists"));
    *world.identity.role.lock().unwrap() = Role::Viewer;
    let viewer: [(&str, &[u8]); 1] = [("authorization", b"Bearer dfk_good_viewer")];
    assert_eq!(world.send("POST", &path, &viewer, "").await.status, 403);
}

#[tokio::test]
async fn many_executions_are_asked_for_in_their_order() {
    let world = World::new().await;
    let path = format!("{EXECUTIONS}/batch");
    let body = json!({ "items": [{ "jobId": HERE }, { "jobId": DELIVERED, "priority": 1 }] });
    let reply = world.post(&path, &body).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let items = reply.json()["items"].as_array().cloned().unwrap();
    let jobs: Vec<_> = items.iter().map(|item| &item["jobId"]).collect();
    assert_eq!(jobs, [HERE, DELIVERED]);
    assert_eq!(asked(&world, "execution.batch"), body);
    for (items, paths) in [
        (json!([]), vec!["items"]),
        (json!([{ "jobId": HERE }, {}]), vec!["items[1].jobId"]),
        (
            json!([{ "jobId": HERE, "priority": "x" }]),
            vec!["items[0].priority"],
        ),
    ] {
        let reply = world.post(&path, &json!({ "items": items })).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert_eq!(reply.paths(), paths);
    }
}

#[tokio::test]
async fn executions_are_listed_got_cancelled_and_begun_again() {
    let world = World::new().await;
    let query = format!(
        "jobId={HERE}&status=FAILED&deadLetter=true&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&limit=7&cursor=c"
    );
    let reply = world.get(&format!("{EXECUTIONS}?{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["nextCursor"], "next");
    assert_eq!(
        asked(&world, "execution.list"),
        json!({
            "jobId": HERE, "status": "FAILED", "deadLetter": true, "from": "2026-01-01T00:00:00.000Z",
            "to": "2026-02-01T00:00:00.000Z", "limit": 7, "cursor": "c",
        })
    );
    for (query, path) in [
        ("status=DONE", "status"),
        ("deadLetter=maybe", "deadLetter"),
    ] {
        let reply = world.get(&format!("{EXECUTIONS}?{query}")).await;
        assert_eq!((reply.status, reply.paths()), (400, vec![path.to_owned()]));
    }
    let shown = world.get(&format!("{EXECUTIONS}/{HERE}")).await.json();
    assert_eq!(
        (&shown["id"], &shown["logs"][0]),
        (&json!(HERE), &json!("[INFO] begins"))
    );
    for (execution, word, status) in [
        (HERE, "cancel", 200),
        (DELIVERED, "cancel", 202),
        (ENDED, "cancel", 409),
        (HERE, "retry", 202),
        (ELSEWHERE, "retry", 404),
    ] {
        let path = format!("{EXECUTIONS}/{execution}/{word}");
        let reply = world.send("POST", &path, &[], "").await;
        assert_eq!(reply.status, status, "{word}: {}", reply.text);
    }
    for (word, status, body) in [
        ("cancel", 200, json!({ "jobId": HERE, "status": "PENDING" })),
        ("retry", 202, json!({ "deadLetter": true })),
    ] {
        let path = format!("{EXECUTIONS}/{word}");
        let reply = world.post(&path, &body).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert_eq!(reply.json(), json!({ "count": 3, "more": false }));
        assert_eq!(asked(&world, &format!("execution.{word}-many")), body);
    }
    let dead = json!({ "deadLetter": true });
    let reply = world.post(&format!("{EXECUTIONS}/cancel"), &dead).await;
    assert_eq!(reply.paths(), ["deadLetter"]);
    // A path of its own and no execution's.
    assert_eq!(world.get(&format!("{EXECUTIONS}/batch")).await.status, 405);
}

#[tokio::test]
async fn settings_are_shown_and_patched() {
    let world = World::new().await;
    let reply = world.get(SETTINGS).await;
    assert_eq!(reply.json(), json!({ "paused": true, "weight": 1 }));
    for body in [
        json!({}),
        json!({ "paused": false, "concurrency": null, "weight": 2 }),
        json!({ "concurrency": 5 }),
    ] {
        let reply = world.send("PATCH", SETTINGS, &[], body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(asked(&world, "settings.edit"), body);
    }
    let body = json!({ "weight": 101 }).to_string();
    let reply = world.send("PATCH", SETTINGS, &[], body).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["weight".to_owned()])
    );
}

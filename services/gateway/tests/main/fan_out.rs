//! Actions for many machines at once: what the owner is asked, what the client sees, and what is refused.

use dashfleet_gateway::error::catalogue::Kind;
use domain::access::Role;
use serde_json::{Value, json};

use crate::standin::{DELIVERED, HERE, NO_ONES, SLOW_ONES};
use crate::world::{Reply, World};

const ACTIONS: &str = "/api/v1/actions";

fn to(selector: &str) -> Value {
    json!({ "selector": selector, "kind": "message", "payload": { "message": "hello" } })
}

#[tokio::test]
async fn a_selector_is_asked_of_its_owner_and_answered_with_one_item_for_each_machine() {
    let world = World::new().await;
    let body = json!({
        "selector": " env = prod, role!=db", "machineId": null, "kind": "message", "payload": { "message": "hello" },
        "notAfter": "2030-01-01T00:00:00.5+01:00", "idempotent": true,
    });
    let reply = world
        .send(
            "POST",
            ACTIONS,
            &[("idempotency-key", b"all")],
            body.to_string(),
        )
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(!reply.headers.contains_key("location"));
    let batch = reply.json();
    assert_eq!(batch.as_object().unwrap().len(), 1, "{batch}");
    let items = batch["items"].as_array().unwrap();
    let machines: Vec<_> = items.iter().map(|item| &item["machineId"]).collect();
    assert_eq!(machines, [HERE, DELIVERED]);
    for item in items {
        let mut fields: Vec<_> = item.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "createdAt",
                "id",
                "kind",
                "machineId",
                "notAfter",
                "seq",
                "status"
            ]
        );
        assert_eq!(
            (&item["kind"], &item["status"]),
            (&json!("message"), &json!("QUEUED"))
        );
        assert_eq!(item["createdAt"], "2026-01-09T23:52:38.548Z");
    }

    let asked = world.actions.fanned_out.lock().unwrap().pop().unwrap();
    // As the caller wrote it: the owner reads it.
    assert_eq!(asked.selector, " env = prod, role!=db");
    assert_eq!(asked.payload, json!({ "message": "hello" }));
    assert_eq!(asked.idempotency_key.as_deref(), Some("all"));
    assert_eq!(
        asked.not_after.unwrap().to_string(),
        "2029-12-31T23:00:00.500Z"
    );
    assert!(asked.idempotent);
    assert!(
        world.actions.created.lock().unwrap().is_empty(),
        "nothing was asked for one machine"
    );
}

#[tokio::test]
async fn nobody_chosen_is_an_empty_list_and_no_refusal() {
    let world = World::new().await;
    let reply = world.post(ACTIONS, &to(NO_ONES)).await;
    assert_eq!((reply.status, reply.json()), (202, json!({ "items": [] })));
}

#[tokio::test]
async fn one_machine_or_a_selector_and_never_both_or_neither() {
    let world = World::new().await;
    let both = json!({ "machineId": HERE, "selector": "env=prod", "kind": "ping", "payload": {} });
    let nulls = json!({ "machineId": null, "selector": null, "kind": "ping", "payload": {} });
    let wrong = json!({ "machineId": HERE, "selector": 7, "kind": "boil", "payload": {} });
    let table = [
        (both, vec!["selector"], "beside `machineId`"),
        (nulls, vec!["machineId"], "unless there is a `selector`"),
        (
            json!({ "kind": "ping", "payload": {} }),
            vec!["machineId"],
            "is required",
        ),
        (wrong, vec!["selector", "selector", "kind"], "3 fields"),
        (to(""), vec!["selector"], "must not be empty"),
        (to(" , "), vec!["selector"], "must not be empty"),
        (to("a b"), vec!["selector"], "the key takes letters"),
        (to("=x"), vec!["selector"], "the key must not be empty"),
        (
            json!({ "selector": ["env=prod"], "kind": "ping", "payload": {} }),
            vec!["selector"],
            "must be a string",
        ),
    ];
    for (body, paths, detail) in table {
        let reply = world.post(ACTIONS, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        let problem = reply.json();
        assert_eq!(problem["type"], Kind::Invalid.reference(), "{body}");
        assert_eq!(reply.paths(), paths, "{body}: {}", reply.text);
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{body}: {problem}"
        );
    }
    let large = json!({ "selector": "env=prod", "kind": "message", "payload": { "message": "x".repeat(65 * 1024) } });
    let reply = world.post(ACTIONS, &large).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (413, vec!["payload".to_owned()])
    );
    // Only what a selector's own grammar refuses was asked of the owner.
    assert_eq!(world.actions.fanned_out.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn rights_and_an_unknown_outcome_are_told_as_for_one() {
    let world = World::new().await;
    let detail = |reply: &Reply| reply.json()["detail"].as_str().unwrap().to_owned();
    let reply = world.post(ACTIONS, &to(SLOW_ONES)).await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    assert_eq!(reply.json()["type"], Kind::OutcomeUnknown.reference());
    assert!(
        detail(&reply).contains("look whether the action exists"),
        "{}",
        reply.text
    );
    let key: [(&str, &[u8]); 1] = [("idempotency-key", b"k")];
    let reply = world
        .send("POST", ACTIONS, &key, to(SLOW_ONES).to_string())
        .await;
    assert!(
        detail(&reply).ends_with("outcome unknown, repeat with the same key"),
        "{}",
        reply.text
    );
    *world.identity.role.lock().unwrap() = Role::Viewer;
    let reply = world
        .send(
            "POST",
            ACTIONS,
            &[("authorization", b"Bearer dfk_good-viewer")],
            to("env=prod").to_string(),
        )
        .await;
    assert_eq!(reply.status, 403, "{}", reply.text);
    assert!(detail(&reply).contains("actions:write"), "{}", reply.text);
}

//! What operators say of machines: what identity is asked, what the client sees, and what is refused.

use std::collections::BTreeMap;

use contract::identity::{MachineEdits, MachineLabel};
use contract::merge::Edit;
use dashfleet_gateway::error::catalogue::Kind;
use domain::access::Role;
use serde_json::{Value, json};

use crate::standin::{CHANGE, DELIVERED, ELSEWHERE, HERE, NO_ONES, SLOW};
use crate::world::World;

const LABELS: &str = "/api/v1/machines/labels";

fn path(machine: &str) -> String {
    format!("/api/v1/machines/{machine}")
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn a_patch_says_set_take_away_or_leave_and_the_answer_shows_what_was_written() {
    let world = World::new().await;
    let labels = BTreeMap::from([(text("env"), Some(text("test"))), (text("rack"), None)]);
    for (body, asked) in [
        (json!({}), MachineEdits::default()),
        (
            json!({ "displayName": "Web server 1", "notes": null, "labels": { "env": "test", "rack": null } }),
            MachineEdits {
                display_name: Edit::Set(text("Web server 1")),
                notes: Edit::Clear,
                labels: Edit::Set(labels),
            },
        ),
        (
            json!({ "displayName": null, "notes": "a\nb", "labels": null }),
            MachineEdits {
                display_name: Edit::Clear,
                notes: Edit::Set(text("a\nb")),
                labels: Edit::Clear,
            },
        ),
    ] {
        let headers: [(&str, &[u8]); 1] = [("content-type", b"application/merge-patch+json")];
        let reply = world
            .send("PATCH", &path(HERE), &headers, body.to_string())
            .await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
        let shown = reply.json();
        assert_eq!(
            (&shown["id"], &shown["displayName"], &shown["notes"]),
            (
                &json!(HERE),
                &json!("Web server 1"),
                &json!("rack 4\ndisk swapped")
            )
        );
        let edit = world.identity.edits.lock().unwrap().pop().unwrap();
        assert_eq!(edit.machine_id.to_string(), HERE);
        assert_eq!(edit.edits, asked, "{body}");
        // It is shown as metrics knows it when it has seen this very edit.
        let get = world.metrics.gets.lock().unwrap().pop().unwrap();
        assert_eq!(
            (get.machine_id, get.change),
            (edit.machine_id, Some(CHANGE))
        );
    }
    assert_eq!(world.get(&path(HERE)).await.status, 200);
    let get = world.metrics.gets.lock().unwrap().pop().unwrap();
    assert_eq!(get.change, None, "nobody waits who only reads");
}

#[tokio::test]
async fn a_patch_that_is_wrong_names_each_field_and_asks_nobody() {
    let world = World::new().await;
    for (body, paths) in [
        (
            json!({ "displayName": "", "notes": 7, "labels": [] }),
            vec!["displayName", "notes", "labels"],
        ),
        (
            json!({ "displayName": "x".repeat(201), "notes": "x".repeat(4_001) }),
            vec!["displayName", "notes"],
        ),
        (
            json!({ "labels": { "env": 7, "rack": ["r1"] } }),
            vec!["labels.env", "labels.rack"],
        ),
        (json!({ "hostname": "web-2" }), vec!["hostname"]),
        (json!(null), vec!["body"]),
    ] {
        let reply = world
            .send("PATCH", &path(HERE), &[], body.to_string())
            .await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert_eq!(reply.paths(), paths, "{body}: {}", reply.text);
    }
    assert!(world.identity.edits.lock().unwrap().is_empty());
    for machine in [ELSEWHERE, "web-1"] {
        let reply = world.send("PATCH", &path(machine), &[], "{}").await;
        assert_eq!(reply.status, 404, "{}", reply.text);
    }
    *world.identity.role.lock().unwrap() = Role::Operator;
    let operator: [(&str, &[u8]); 1] = [("authorization", b"Bearer dfk_good-operator")];
    for (method, path) in [("PATCH", path(HERE)), ("POST", text(LABELS))] {
        let body = json!({ "selector": "env", "labels": { "env": null } });
        let body = if method == "POST" { body } else { json!({}) };
        let reply = world.send(method, &path, &operator, body.to_string()).await;
        assert_eq!(reply.status, 403, "{}", reply.text);
        assert!(reply.text.contains("machines:write"), "{}", reply.text);
    }
}

#[tokio::test]
async fn an_edit_that_cannot_be_shown_is_told_as_made() {
    let world = World::new().await;
    let reply = world.send("PATCH", &path(SLOW), &[], "{}").await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    let problem = reply.json();
    assert_eq!(problem["type"], Kind::Unavailable.reference());
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("the edit is made"), "{detail}");
}

#[tokio::test]
async fn labels_of_many_are_edited_by_list_or_selector() {
    let world = World::new().await;
    let reply = world
        .post(
            LABELS,
            &json!({ "machineIds": [HERE, DELIVERED], "labels": { "env": "test", "rack": null } }),
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(
        reply.json(),
        json!({ "items": [{ "id": HERE, "changed": false }, { "id": DELIVERED, "changed": true }] })
    );
    let asked = world.identity.labels.lock().unwrap().pop().unwrap();
    assert_eq!(
        asked,
        MachineLabel {
            machine_ids: Some(vec![HERE.parse().unwrap(), DELIVERED.parse().unwrap()]),
            selector: None,
            labels: [(text("env"), Some(text("test"))), (text("rack"), None)].into(),
        }
    );
    // Whoever lists now finds what was written: metrics was waited for.
    let get = world.metrics.gets.lock().unwrap().pop().unwrap();
    assert_eq!(
        (get.machine_id.to_string().as_str(), get.change),
        (DELIVERED, Some(CHANGE))
    );
    let none = json!({ "selector": NO_ONES, "labels": { "env": "test" } });
    let reply = world.post(LABELS, &none).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "items": [] })));
    assert!(world.metrics.gets.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_list_or_a_selector_and_never_both_or_neither_and_never_too_many() {
    let world = World::new().await;
    let many = |count: usize| -> Value {
        let ids = std::iter::repeat_n(HERE, count).collect::<Vec<_>>();
        json!({ "machineIds": ids, "labels": { "env": "test" } })
    };
    for (body, paths) in [
        (
            json!({ "machineIds": [HERE], "selector": "env", "labels": { "env": null } }),
            vec!["selector"],
        ),
        (json!({ "labels": { "env": null } }), vec!["machineIds"]),
        (json!({ "selector": "env" }), vec!["labels"]),
        (json!({ "selector": "", "labels": {} }), vec!["selector"]),
        (json!({ "selector": "env", "labels": null }), vec!["labels"]),
        (
            json!({ "selector": "env", "labels": { "env": 7 } }),
            vec!["labels.env"],
        ),
        (
            json!({ "machineIds": [HERE, "web-1"], "labels": { "env": null } }),
            vec!["machineIds[1]"],
        ),
        (many(0), vec!["machineIds"]),
        (many(1_001), vec!["machineIds"]),
    ] {
        let reply = world.post(LABELS, &body).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert_eq!(reply.paths(), paths, "{}", reply.text);
    }
    assert!(world.identity.labels.lock().unwrap().is_empty());
    assert_eq!(world.post(LABELS, &many(1_000)).await.status, 200);
    let reply = world.get(LABELS).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
}

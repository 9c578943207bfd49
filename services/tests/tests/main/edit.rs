//! What an operator says of machines, on the whole product with two replicas of each service: whoever reads, lists or
//! chooses after the answer finds it; an agent undoes nothing; a revoked machine leaves its history and its hostname.

use std::time::Duration;

use dashfleet_tests::{Api, Product, TestAgent};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const LABELS: &str = "/api/v1/machines/labels";

fn path(machine: &str) -> String {
    format!("/api/v1/machines/{machine}")
}

async fn edit(api: &Api, machine: &str, edit: Value) -> Value {
    let path = path(machine);
    let sent = api.send(Method::PATCH, &path, &[], Some(edit));
    let (status, body) = sent.await.expect("an answer");
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// The machines that a selector chooses, as a list shows them now.
async fn listed(api: &Api, selector: &str) -> Vec<String> {
    let selector = selector.replace('=', "%3D").replace(',', "%2C");
    let page = api
        .get(&format!("/api/v1/machines?selector={selector}"))
        .await;
    let items = page["items"].as_array().expect("items").iter();
    let id = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    let mut ids: Vec<String> = items.map(id).collect();
    ids.sort();
    ids
}

async fn pinged(api: &Api, selector: &str) -> Vec<String> {
    let body = json!({ "selector": selector, "kind": "ping", "payload": {} });
    let (status, body) = api.post("/api/v1/actions", body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let items = body["items"].as_array().expect("items").iter();
    let mut ids: Vec<String> = items
        .map(|item| item["machineId"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn an_edit_is_seen_everywhere_and_nothing_that_an_agent_says_undoes_it() {
    let product = Product::start(2);
    let api = product.api();
    let mut agent = TestAgent::enroll_with(&product, "web", &["env=prod", "role=web"]);
    let other = TestAgent::enroll_with(&product, "db", &["env=prod", "role=db"]);
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let mut both = vec![agent.machine.clone(), other.machine.clone()];
    both.sort();

    // At once: each answer is followed by a list and by a fan-out that must know.
    for n in 0..5 {
        let (name, rack) = (format!("Web server {n}"), format!("r{n}"));
        let labels = json!({ "env": "test", "rack": rack, "role": null });
        let body =
            json!({ "displayName": name, "notes": "rack 4\ndisk swapped", "labels": labels });
        let shown = edit(&api, &agent.machine, body).await;
        assert_eq!(shown["displayName"], json!(name));
        assert_eq!(shown["notes"], "rack 4\ndisk swapped");
        assert_eq!(shown["labels"], json!({ "env": "test", "rack": rack }));
        let selector = format!("rack={rack}");
        assert_eq!(listed(&api, &selector).await, [agent.machine.as_str()]);
        assert_eq!(pinged(&api, &selector).await, [agent.machine.as_str()]);
    }
    assert_eq!(listed(&api, "env=prod").await, [other.machine.as_str()]);

    // The agent starts again, reports and enrols again: what the operator said stays.
    agent.kill();
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let shown = api.get(&path(&agent.machine)).await;
    assert_eq!(shown["labels"], json!({ "env": "test", "rack": "r4" }));

    // Many at once, the selector moving them out of what chose them.
    let body = json!({ "machineIds": both, "labels": { "site": "berlin" } });
    let (status, body) = api.post(LABELS, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(listed(&api, "site=berlin").await, both);
    assert_eq!(pinged(&api, "site=berlin").await, both);
    let body = json!({ "selector": "site=berlin", "labels": { "site": "paris", "rack": null } });
    let (status, body) = api.post(LABELS, body).await;
    assert_eq!(
        (status, body["items"].as_array().map(Vec::len)),
        (StatusCode::OK, Some(2))
    );
    assert_eq!(listed(&api, "site=paris").await, both);
    assert!(listed(&api, "site=berlin").await.is_empty());

    // One that is not there: nobody is changed, and the answer names it.
    let missing = uuid::Uuid::now_v7();
    let body = json!({ "machineIds": [agent.machine, missing], "labels": { "site": "rome" } });
    let (status, problem) = api.post(LABELS, body).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    assert_eq!(problem["errors"][0]["path"], "machineIds[1]");
    assert_eq!(listed(&api, "site=paris").await, both);
}

#[tokio::test]
async fn a_revoked_machine_leaves_its_history_and_its_hostname() {
    let product = Product::start(2);
    let api = product.api();
    let mut agent = TestAgent::enroll_with(&product, "web", &["env=prod"]);
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let action = api.action(&agent.machine, "ping", json!({})).await;
    assert_eq!(api.ended(&action, PATIENCE).await["status"], "SUCCEEDED");
    testkit::eventually("a sample is there", PATIENCE, || async {
        let machine = api.get(&path(&agent.machine)).await;
        machine["latestSample"].is_object().then_some(())
    })
    .await;
    let before = api.get(&path(&agent.machine)).await;

    for _ in 0..2 {
        let revoked = path(&agent.machine);
        let sent = api.send(Method::DELETE, &revoked, &[], None);
        let (status, body) = sent.await.expect("an answer");
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }
    let revoked = api.machine_is(&agent.machine, "REVOKED", PATIENCE).await;
    for field in ["hostname", "labels", "enrolledAt"] {
        assert_eq!(revoked[field], before[field], "{field}");
    }
    // The whole inventory may come after the first sample; what was sent at enrolment is there from the start.
    assert_eq!(
        revoked["inventory"]["kernel"],
        before["inventory"]["kernel"]
    );
    assert!(listed(&api, "env=prod").await.contains(&agent.machine));
    let ended = api.get(&format!("/api/v1/actions/{action}")).await;
    assert_eq!(ended["status"], "SUCCEEDED");
    let of_machine = api
        .get(&format!("/api/v1/actions?machineId={}", agent.machine))
        .await;
    assert_eq!(of_machine["items"].as_array().map(Vec::len), Some(1));
    for what in ["samples", "presence", "availability"] {
        let page = api.get(&format!("{}/{what}", path(&agent.machine))).await;
        let items = page["items"].as_array().expect("items");
        assert!(!items.is_empty(), "{what}: {page}");
    }
    let noted = edit(&api, &agent.machine, json!({ "notes": "scrapped" })).await;
    assert_eq!(
        (&noted["notes"], &noted["status"]),
        (&json!("scrapped"), &json!("REVOKED"))
    );

    // The same host again, as a machine of its own.
    let mut next = TestAgent::enroll_with(&product, "web-again", &["env=prod"]);
    next.start();
    let shown = api.machine_is(&next.machine, "ONLINE", PATIENCE).await;
    assert_eq!(shown["hostname"], before["hostname"]);
    assert_ne!(shown["id"], before["id"]);
    assert_eq!(pinged(&api, "env=prod").await, [next.machine.as_str()]);
}

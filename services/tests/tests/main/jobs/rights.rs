//! `builtin/action` has the right that whoever asked for the execution has when it runs, and not the one that they had.

use dashfleet_tests::{Api, Product, TestAgent};
use domain::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{JOBS, PATIENCE, ends, execution, id_of, made};

const PASSWORD: &str = "a password of many words";
/// How long executions wait while rights are taken away.
const DELAY: chrono::Duration = chrono::Duration::seconds(6);

async fn login(url: &str, dev: &Value) -> Api {
    let text = |name: &str| dev[name].as_str().expect("a text");
    let body = json!({ "email": text("adminEmail"), "password": text("adminPassword") });
    let (status, tokens) = Api::new(url, "").post("/api/v1/auth/login", body).await;
    assert!(status.is_success(), "{status} {tokens}");
    Api::new(url, tokens["accessToken"].as_str().expect("a token"))
}

/// Somebody new with this role: who they are, and their credential.
async fn joined(admin: &Api, role: &str) -> (String, Api) {
    let invite = json!({ "email": "bob@example.org", "role": role });
    let (status, invited) = admin.post("/api/v1/users", invite).await;
    assert!(status.is_success(), "{status} {invited}");
    let link = invited["link"].as_str().expect("a link");
    let (_, token) = link.split_once('#').expect("a token");
    let accept = json!({ "token": token, "password": PASSWORD, "name": "Bob" });
    let anybody = Api::new(&admin.url, "");
    let (status, tokens) = anybody
        .post("/api/v1/auth/invitations/accept", accept)
        .await;
    assert!(status.is_success(), "{status} {tokens}");
    let token = tokens["accessToken"].as_str().expect("a token");
    let api = Api::new(&admin.url, token);
    let me = api.get("/api/v1/auth/me").await;
    (id_of(&me), api)
}

async fn sent(api: &Api, method: Method, path: &str, body: Option<Value>, expected: u16) {
    let answer = api.send(method, path, &[], body).await;
    let (status, answer) = answer.expect("an answer");
    assert_eq!(status, expected, "{path}: {answer}");
}

/// What an agent executed so far, by the ids of its actions.
fn executed(agent: &TestAgent) -> Vec<String> {
    let all = agent.executions().into_iter();
    all.map(|execution| execution.action).collect()
}

pub async fn an_action_is_queued_with_the_right_of_the_moment(product: &Product) {
    let (owner, dev) = (product.api(), product.dev());
    let admin = login(&owner.url, &dev).await;
    let mut agent = TestAgent::enroll(product, "acted-on");
    agent.start();
    owner.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let config = json!({ "machineId": agent.machine, "kind": "ping", "payload": {} });
    // With retries: what is refused for good uses up none of them.
    let job = json!({ "name": "ping", "handler": "builtin/action", "config": config, "retries": 5, "backoff": 100 });
    let execute = format!(
        "{JOBS}/{}/execute",
        id_of(&made(&owner, JOBS, job, 201).await)
    );
    let key = json!({ "name": "scheduled", "role": "OPERATOR" });
    let key = made(&admin, "/api/v1/api-keys", key, 201).await;
    let program = Api::new(&owner.url, key["key"].as_str().expect("a key"));
    let (bob, person) = joined(&admin, "OPERATOR").await;

    // Both may, and the machine does it.
    let mut done = Vec::new();
    for api in [&program, &person] {
        let id = id_of(&made(api, &execute, json!({}), 202).await);
        let ended = ends(&owner, &id, "COMPLETED").await;
        let action = ended["result"]["actionId"].as_str().expect("an action");
        let action = owner.ended(action, PATIENCE).await;
        assert_eq!(action["status"], "SUCCEEDED", "{action}");
        done.push(id_of(&action));
    }
    assert_eq!(executed(&agent), done);

    // Both ask for it to be done later. Then the one is revoked, and the other may only look on.
    let run_at = Timestamp::now().plus(DELAY).to_string();
    let mut late = Vec::new();
    for api in [&program, &person] {
        let asked = made(api, &execute, json!({ "runAt": run_at }), 202).await;
        assert_eq!(asked["status"], "PENDING", "{asked}");
        late.push(id_of(&asked));
    }
    let path = format!("/api/v1/api-keys/{}", id_of(&key));
    sent(&admin, Method::DELETE, &path, None, 204).await;
    let viewer = Some(json!({ "role": "VIEWER" }));
    let path = format!("/api/v1/users/{bob}");
    sent(&admin, Method::PATCH, &path, viewer, 200).await;
    for id in &late {
        let waits = execution(&owner, id).await;
        assert_eq!(
            waits["status"], "PENDING",
            "it ran before the right was taken away: {waits}"
        );
    }
    for id in &late {
        let ended = ends(&owner, id, "FAILED").await;
        assert_eq!(ended["deadLetter"], true, "{ended}");
        assert_eq!(ended["attempt"], 1, "for good: {ended}");
        let message = ended["error"]["message"].as_str().expect("a reason");
        assert!(message.starts_with("refused: "), "{message}");
    }
    let path = format!("/api/v1/actions?machineId={}&limit=200", agent.machine);
    let actions = owner.get(&path).await;
    let actions = actions["items"].as_array().expect("items");
    assert_eq!(actions.len(), done.len(), "none was queued: {actions:?}");
    assert_eq!(executed(&agent), done, "nothing was done");
}

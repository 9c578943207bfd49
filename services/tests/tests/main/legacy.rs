//! An agent of Dash-Fleet, as one is, against the whole product: it reports, appears, gets its action and reports it
//! done; a wrong key, another address and too many requests are refused as it knows it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dashfleet_tests::{Api, Product};
use reqwest::StatusCode;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const REPORT: &str = "/api/fleet/report";
const PENDING: &str = "/api/actions/pending";

/// What an agent was answered: what it asked, the status, the body.
type Answer = (String, u64, Value);

/// Runs the agent for some rounds, from this address, with this key.
async fn agent(product: &Product, key: &str, name: &str, source: &str, rounds: u32) -> Vec<Answer> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/legacy/agent.py");
    let mut command = Command::new("python3");
    command
        .arg(program)
        .args(["--url", product.dev()["url"].as_str().unwrap()])
        .args(["--machine", name, "--source", source])
        .args(["--rounds", &rounds.to_string()])
        .env("FLEET_API_KEY", key);
    let ran = tokio::task::spawn_blocking(move || command.output().expect("python3"));
    let output = ran.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{wrong}");
    said.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let path = line[0].as_str().expect("a path").to_owned();
            (path, line[1].as_u64().expect("a status"), line[2].clone())
        })
        .collect()
}

fn statuses(answers: &[Answer]) -> Vec<(&str, u64)> {
    answers
        .iter()
        .map(|(path, status, _)| (path.as_str(), *status))
        .collect()
}

async fn queue(script: &Api, machine: &str, kind: &str, data: Value) -> String {
    let body = json!({ "machine_id": machine, "action_type": kind, "data": data });
    let (status, body) = script.post("/api/actions/queue", body).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(body["ok"], true);
    body["action_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn an_agent_of_dash_fleet_reports_appears_gets_its_action_and_reports_it_done() {
    let product = Product::start(2);
    let api = product.api();
    let key = product.dev()["legacyApiKey"].as_str().unwrap().to_owned();
    let script = Api::new(&api.url, &key);
    let name = "old laptop";

    // It reports, and appears: for its own scripts and for everybody.
    let answers = agent(&product, &key, name, "127.0.0.1", 1).await;
    assert_eq!(statuses(&answers), [(REPORT, 200), (PENDING, 200)]);
    let org = product.dev()["organizationId"].clone();
    assert_eq!(
        answers[0].2,
        json!({ "status": "success", "ok": true, "machine_id": name, "org_id": org })
    );
    assert_eq!(answers[1].2, json!({ "actions": [] }));
    let fleet = script.get("/api/fleet").await;
    let shown = &fleet["machines"][0];
    assert_eq!(
        (&fleet["count"], &shown["machine_id"]),
        (&json!(1), &json!(name))
    );
    assert_eq!(shown["id"], format!("{}:{name}", org.as_str().unwrap()));
    assert!((590..=600).contains(&shown["ttl_remaining_seconds"].as_u64().unwrap()));
    let machines = api.get("/api/v1/machines").await;
    let machines = machines["items"].as_array().expect("items");
    let machine = machines.iter().find(|machine| machine["hostname"] == name);
    let machine = machine.expect("the machine");
    assert_eq!(
        (&machine["transport"], &machine["trust"], &machine["status"]),
        (&json!("HTTP"), &json!("UNVERIFIED"), &json!("ONLINE"))
    );
    assert_eq!(machine["latestSample"]["memory"]["percent"], 41.5);
    let id = machine["id"].as_str().expect("an id").to_owned();

    // It gets what its script and the API queue, once, and says what became of it.
    let by_script = queue(&script, name, "message", json!({ "message": "hi" })).await;
    let by_api = api.action(&id, "message", json!({ "message": "ho" })).await;
    let refused = queue(&script, name, "reboot", json!({})).await;
    let answers = agent(&product, &key, name, "127.0.0.1", 2).await;
    let reported = answers
        .iter()
        .filter(|answer| answer.0 == "/api/actions/report");
    assert_eq!(reported.clone().count(), 3, "{answers:?}");
    assert!(
        reported
            .into_iter()
            .all(|answer| answer.1 == 200 && answer.2 == json!({ "ok": true }))
    );
    for (action, status, result) in [
        (&by_script, "SUCCEEDED", "shown: hi"),
        (&by_api, "SUCCEEDED", "shown: ho"),
        (&refused, "FAILED", "not allowed here"),
    ] {
        let ended = api.ended(action, PATIENCE).await;
        assert_eq!(
            (&ended["status"], &ended["result"]),
            (&json!(status), &json!(result))
        );
    }

    // A wrong key is 403.
    let answers = agent(
        &product,
        "dfl_wrong0123456789abcdefghij",
        name,
        "127.0.0.1",
        1,
    )
    .await;
    assert_eq!(statuses(&answers), [(REPORT, 403), (PENDING, 403)]);
    assert!(answers[0].2["error"].is_string());

    // From another block it is quarantined, from wherever it comes then, until an operator releases.
    let waiting = queue(&script, name, "message", json!({ "message": "later" })).await;
    let answers = agent(&product, &key, name, "127.1.0.1", 1).await;
    assert_eq!(statuses(&answers), [(REPORT, 403), (PENDING, 403)]);
    let machine = api.machine_is(&id, "QUARANTINED", PATIENCE).await;
    let reason = machine["statusReason"].as_str().expect("a reason");
    assert!(reason.contains("127.1.0.0/24"), "{reason}");
    testkit::eventually("nobody speaks for it", PATIENCE, || async {
        let answers = agent(&product, &key, name, "127.0.0.1", 1).await;
        (statuses(&answers) == [(REPORT, 403), (PENDING, 403)]).then_some(())
    })
    .await;
    let release = format!("/api/v1/machines/{id}/release");
    let (status, body) = api.post(&release, json!({ "accept": "NEW" })).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    let answers = agent(&product, &key, name, "127.1.0.1", 8).await;
    assert_eq!(answers[0].1, 200, "{answers:?}");
    let ended = api.ended(&waiting, PATIENCE).await;
    assert_eq!(ended["result"], "shown: later");

    // A name never leads to an enrolled machine.
    let enrolled = product.machine();
    let body = json!({ "machine_id": enrolled, "action_type": "restart", "data": {} });
    let (status, _) = script.post("/api/actions/queue", body).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn beyond_the_limit_an_agent_of_dash_fleet_is_answered_429_with_the_headers() {
    let product = Product::start(1);
    let dev = product.dev();
    let (url, key) = (
        dev["url"].as_str().unwrap(),
        dev["legacyApiKey"].as_str().unwrap(),
    );
    // Made by `Api`, so that there is a TLS provider.
    drop(Api::new(url, key));
    let client = reqwest::Client::new();
    let report = json!({ "cpu_percent": 1, "ram_percent": 2, "disk_percent": 3 });
    let mut refused = 0;
    for sent in 1..=32 {
        let response = client
            .post(format!("{url}{REPORT}"))
            .bearer_auth(key)
            .json(&json!({ "machine_id": "busy", "report": report }))
            .send()
            .await
            .expect("an answer");
        let header = |name: &str| {
            let value = response.headers().get(name).expect(name);
            value.to_str().unwrap().parse::<i64>().expect("a number")
        };
        assert_eq!(header("x-ratelimit-limit"), 30);
        assert_eq!(header("x-ratelimit-remaining"), (30 - sent).max(0));
        assert!(header("x-ratelimit-reset") > 0);
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            assert!(header("retry-after") <= 60);
            refused += 1;
        } else {
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
    assert_eq!(refused, 2);
}

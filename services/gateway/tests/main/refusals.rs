//! Bad input and what it gets: each refusal is a problem document with its status, its class and the path of the field.

use dashfleet_gateway::body::Bodies;
use dashfleet_gateway::edge::Edge;
use dashfleet_gateway::error::catalogue::Kind;
use dashfleet_gateway::limits::{Amounts, Limits};
use dashfleet_gateway::metrics::Metrics;
use dashfleet_gateway::visit::House;
use domain::access::Role;
use poem::endpoint::make_sync;
use poem::{Endpoint, EndpointExt, Request, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

use self::cases::ACTIONS;
use crate::standin::{BUSY, ELSEWHERE, HERE, SLOW};
use crate::world::{Reply, World};

#[path = "refusals/cases.rs"]
mod cases;

/// What every refusal has.
fn check_refusal(name: &str, path: &str, reply: &Reply, status: u16, kind: Kind) -> Value {
    assert_eq!(reply.status, status, "{name}: {}", reply.text);
    assert_eq!(
        reply.header("content-type"),
        "application/problem+json",
        "{name}"
    );
    let problem = reply.json();
    assert_eq!(problem["type"], kind.reference(), "{name}: {problem}");
    assert_eq!(problem["title"], kind.title(), "{name}");
    assert_eq!(problem["status"], status, "{name}");
    assert_eq!(
        problem["instance"],
        path.split('?').next().unwrap(),
        "{name}"
    );
    assert_eq!(problem["traceId"].as_str().unwrap().len(), 32, "{name}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{name}");
    assert!(problem["errors"].is_array(), "{name}");
    assert_eq!(
        reply.headers.contains_key("www-authenticate"),
        status == 401,
        "{name}"
    );
    assert_eq!(
        reply.headers.contains_key("retry-after"),
        matches!(status, 429 | 503),
        "{name}"
    );
    problem
}

#[tokio::test]
async fn bad_input_gets_its_status_its_class_and_its_path() {
    let world = World::new().await;
    let tables = [
        cases::bodies(),
        cases::sizes_and_types(),
        cases::keys(),
        cases::credentials(),
        cases::paths_and_queries(),
        cases::owners(),
    ];
    for case in tables.into_iter().flatten() {
        let reply = case.ask(&world).await;
        check_refusal(case.name, &case.path, &reply, case.status, case.kind);
        assert_eq!(reply.paths(), case.paths, "{}: {}", case.name, reply.text);
    }
    assert_eq!(
        world
            .actions
            .created
            .lock()
            .unwrap()
            .iter()
            .filter(|c| c.idempotency_key.is_some())
            .count(),
        0
    );
}

#[tokio::test]
async fn refusals_say_what_helps() {
    let world = World::new().await;
    let detail = |reply: &Reply| reply.json()["detail"].as_str().unwrap().to_owned();

    let reply = world.send("PUT", ACTIONS, &[], "").await;
    assert_eq!(reply.header("allow"), "GET, HEAD, POST");

    let reply = world.get_as("", "/api/v1/machines").await;
    assert_eq!(
        reply.header("www-authenticate"),
        "Bearer realm=\"dashfleet\""
    );
    let reply = world.get_as("dfk_wrong", "/api/v1/machines").await;
    assert!(reply.header("www-authenticate").contains("invalid_token"));

    let reply = world
        .post(
            ACTIONS,
            &json!({ "machineId": HERE, "kind": "boil", "payload": {} }),
        )
        .await;
    assert_eq!(
        detail(&reply),
        "kind: must be one of ping, message, restart, reboot, not `boil`"
    );
    let reply = world.get("/api/v1/machines?status=ASLEEP").await;
    assert_eq!(
        detail(&reply),
        "status: must be one of ONLINE, OFFLINE, QUARANTINED, REVOKED, not `ASLEEP`"
    );
    let reply = world.get("/api/v1/machines?limit=500").await;
    assert_eq!(detail(&reply), "limit: must be an integer from 1 to 200");
    let reply = world
        .send("POST", ACTIONS, &[], "{\n \"kind\" \"ping\"}")
        .await;
    assert!(
        reply.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("line 2 column"),
        "{}",
        reply.text
    );

    // The same words for what is nowhere and for what is elsewhere: they come from the owner as they are.
    let reply = world.get(&format!("/api/v1/machines/{ELSEWHERE}")).await;
    assert_eq!(
        detail(&reply),
        "there is no such machine in this organisation"
    );

    let busy = json!({ "machineId": BUSY, "kind": "ping", "payload": {} });
    assert_eq!(world.post(ACTIONS, &busy).await.header("retry-after"), "7");
    let slow = json!({ "machineId": SLOW, "kind": "ping", "payload": {} });
    let reply = world.post(ACTIONS, &slow).await;
    assert!(
        detail(&reply).contains("outcome unknown, repeat with the same key"),
        "{}",
        reply.text
    );
    assert!(
        detail(&reply).contains("look whether the action exists"),
        "{}",
        reply.text
    );
    let reply = world
        .send(
            "POST",
            ACTIONS,
            &[("idempotency-key", b"k")],
            slow.to_string(),
        )
        .await;
    assert!(
        detail(&reply).ends_with("outcome unknown, repeat with the same key"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let world = World::new().await;
    *world.identity.role.lock().unwrap() = Role::Viewer;
    let create = json!({ "machineId": HERE, "kind": "ping", "payload": {} });
    let reply = world.post(ACTIONS, &create).await;
    let problem = check_refusal("a viewer", ACTIONS, &reply, 403, Kind::Forbidden);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("actions:write"),
        "{problem}"
    );
    assert_eq!(world.get("/api/v1/actions").await.status, 200);
}

#[tokio::test]
async fn the_trace_of_the_caller_goes_on_in_the_refusal() {
    let world = World::new().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let reply = world
        .send(
            "GET",
            "/api/v1/nothing",
            &[("traceparent", parent.as_bytes())],
            "",
        )
        .await;
    assert_eq!(reply.json()["traceId"], trace);
    let reply = world
        .send(
            "GET",
            "/api/v1/nothing",
            &[("traceparent", b"nonsense")],
            "",
        )
        .await;
    assert_eq!(reply.json()["traceId"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn every_class_of_refusal_is_explained_where_its_type_points() {
    let world = World::new().await;
    let all = world.get_as("", "/problems").await;
    for kind in Kind::ALL {
        let reply = world.get_as("", &kind.reference()).await;
        assert_eq!(reply.status, 200, "{kind:?}");
        assert!(reply.text.contains(kind.title()), "{kind:?}");
        assert!(all.text.contains(&kind.reference()), "{kind:?}");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_too_and_the_next_request_is_served() {
    let inner = make_sync(|request: Request| -> Response {
        assert!(!request.uri().path().ends_with("panic"), "a fault of ours");
        Response::builder().body("fine")
    });
    let house = House {
        routes: Arc::default(),
        bodies: Arc::new(Bodies::new(Duration::from_secs(1))),
        browsers: Arc::default(),
    };
    let metrics = Metrics::new().unwrap();
    let limits = Limits::new(Amounts::default(), "secret", &metrics);
    let edge = Edge::new(inner.map_to_response(), house, Vec::new(), limits, metrics);
    let mut response = edge
        .get_response(
            Request::builder()
                .uri_str("/panic")
                .header("host", "x")
                .finish(),
        )
        .await;
    assert_eq!(response.status().as_u16(), 500);
    assert_eq!(response.content_type(), Some("application/problem+json"));
    let problem: Value = response.take_body().into_json().await.unwrap();
    assert_eq!(problem["type"], Kind::Internal.reference());
    assert!(
        !problem.to_string().contains("a fault of ours"),
        "what a panic says is for the log: {problem}"
    );
    let response = edge
        .get_response(
            Request::builder()
                .uri_str("/fine")
                .header("host", "x")
                .finish(),
        )
        .await;
    assert_eq!(response.status().as_u16(), 200);
}

//! Bad input and what it gets: each refusal is a problem document with its status, its class and the path of the field.

use dashfleet_gateway::body::Bodies;
use dashfleet_gateway::edge::Edge;
use dashfleet_gateway::error::catalogue::Kind;
use dashfleet_gateway::metrics::Metrics;
use dashfleet_gateway::routes::Routes;
use domain::access::Role;
use poem::endpoint::make_sync;
use poem::{Endpoint, EndpointExt, Request, Response};
use serde_json::{Value, json};
use std::time::Duration;

use crate::standin::{BUSY, ELSEWHERE, ENDED, HERE, SLOW};
use crate::world::{Reply, World};

const ACTIONS: &str = "/api/v1/actions";

/// A request that is refused, and how.
struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    status: u16,
    kind: Kind,
    paths: Vec<&'static str>,
}

fn case(
    name: &'static str,
    method: &'static str,
    path: impl Into<String>,
    status: u16,
    kind: Kind,
) -> Case {
    let (headers, body, paths) = (Vec::new(), Vec::new(), Vec::new());
    Case {
        name,
        method,
        path: path.into(),
        headers,
        body,
        status,
        kind,
        paths,
    }
}

impl Case {
    fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn names<const N: usize>(mut self, paths: [&'static str; N]) -> Self {
        self.paths = paths.to_vec();
        self
    }

    async fn ask(&self, world: &World) -> Reply {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        world
            .send(self.method, &self.path, &headers, self.body.clone())
            .await
    }
}

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

fn create(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body =
        json!({ "machineId": HERE, "kind": "message", "payload": { "message": "hello" } });
    change(&mut body);
    body.to_string().into_bytes()
}

fn bodies() -> Vec<Case> {
    let wrong = |name, body: Vec<u8>| case(name, "POST", ACTIONS, 400, Kind::Invalid).body(body);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    vec![
        wrong("malformed JSON", b"{\"machineId\":".to_vec()).names(["body"]),
        wrong("not UTF-8", b"{\"machineId\":\"\xff\"}".to_vec()).names(["body"]),
        wrong("nested too deeply", deep.into_bytes()).names(["body"]),
        wrong("two values", b"{} {}".to_vec()).names(["body"]),
        wrong("a list", b"[]".to_vec()).names(["body"]),
        wrong("a text", b"\"machineId\"".to_vec()).names(["body"]),
        wrong("null", b"null".to_vec()).names(["body"]),
        wrong("no body", Vec::new()).names(["machineId", "kind", "payload"]),
        wrong("an empty object", b"{}".to_vec()).names(["machineId", "kind", "payload"]),
        wrong("machineId is a number", create(|b| b["machineId"] = json!(7))).names(["machineId"]),
        wrong("machineId is null", create(|b| b["machineId"] = json!(null))).names(["machineId"]),
        wrong("machineId is no UUID", create(|b| b["machineId"] = json!("web-1"))).names(["machineId"]),
        wrong("machineId in braces", create(|b| b["machineId"] = json!(format!("{{{HERE}}}")))).names(["machineId"]),
        wrong("unknown kind", create(|b| b["kind"] = json!("format-disk"))).names(["kind"]),
        wrong("kind in capitals", create(|b| b["kind"] = json!("PING"))).names(["kind"]),
        wrong("kind is an object", create(|b| b["kind"] = json!({}))).names(["kind"]),
        wrong("payload is a list", create(|b| b["payload"] = json!([]))).names(["payload"]),
        wrong("payload is a text", create(|b| b["payload"] = json!("x"))).names(["payload"]),
        wrong("payload lacks a field", create(|b| b["payload"] = json!({}))).names(["payload.message"]),
        wrong("payload has a wrong type", create(|b| b["payload"] = json!({ "message": 7 }))).names(["payload.message"]),
        wrong("payload has an unknown field", create(|b| b["payload"] = json!({ "message": "x", "to": 1 })))
            .names(["payload.to"]),
        wrong("notAfter is no time", create(|b| b["notAfter"] = json!("tomorrow"))).names(["notAfter"]),
        wrong("notAfter is a number", create(|b| b["notAfter"] = json!(1_700_000_000))).names(["notAfter"]),
        wrong("idempotent is a text", create(|b| b["idempotent"] = json!("yes"))).names(["idempotent"]),
        wrong("a misspelt field", create(|b| b["notafter"] = json!("2026-01-09T23:52:38Z"))).names(["notafter"]),
        wrong("the key in the body", create(|b| b["idempotencyKey"] = json!("x"))).names(["idempotencyKey"]),
        wrong("everything at once", json!({ "machineId": 1, "kind": "x", "payload": 2, "idempotent": 3 }).to_string().into())
            .names(["machineId", "kind", "payload", "idempotent"]),
        case("login without password", "POST", "/api/v1/auth/login", 400, Kind::Invalid)
            .header("authorization", "")
            .body(r#"{"email":"a@b"}"#)
            .names(["password"]),
        case("login with an address of its own", "POST", "/api/v1/auth/login", 400, Kind::Invalid)
            .header("authorization", "")
            .body(r#"{"email":"a@b","password":"x","address":"10.0.0.1"}"#)
            .names(["address"]),
        case("an empty refresh token", "POST", "/api/v1/auth/refresh", 400, Kind::Invalid)
            .body(r#"{"refreshToken":""}"#)
            .names(["refreshToken"]),
        case("an enrolment with wrong types", "POST", "/api/v1/agents/enroll", 400, Kind::Invalid)
            .body(r#"{"token":"t","challenge":"c","publicKey":"U","signature":"s","hostname":"h","inventory":{"cpuCores":-1},"labels":{"env":7}}"#)
            .names(["inventory.cpuCores", "labels.env"]),
    ]
}

fn sizes_and_types() -> Vec<Case> {
    let large = |bytes: usize| create(|b| b["payload"]["message"] = json!("x".repeat(bytes)));
    vec![
        case(
            "a payload of more than 64 KiB",
            "POST",
            ACTIONS,
            413,
            Kind::TooLarge,
        )
        .body(large(65 * 1024))
        .names(["payload"]),
        case(
            "a body of more than 1 MiB",
            "POST",
            ACTIONS,
            413,
            Kind::TooLarge,
        )
        .body(large(1024 * 1024)),
        case("a body of 7 MiB", "POST", ACTIONS, 413, Kind::TooLarge)
            .body(vec![b' '; 7 * 1024 * 1024]),
        case("text", "POST", ACTIONS, 415, Kind::MediaType)
            .header("content-type", "text/plain")
            .body(create(|_| {})),
        case("a form", "POST", ACTIONS, 415, Kind::MediaType)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(create(|_| {})),
        case("compressed", "POST", ACTIONS, 415, Kind::MediaType)
            .header("content-encoding", "gzip")
            .body(create(|_| {})),
    ]
}

fn keys() -> Vec<Case> {
    let key = |name, value: &[u8]| {
        case(name, "POST", ACTIONS, 400, Kind::Invalid)
            .header("idempotency-key", value)
            .body(create(|_| {}))
            .names(["Idempotency-Key"])
    };
    vec![
        key("an empty key", b""),
        key("a key with a space", b"a b"),
        key("a key with a tab", b"a\tb"),
        key("a key that is not ASCII", "schlüssel".as_bytes()),
        key("a key that is not UTF-8", b"\xff\xfe"),
        key("a key of 129 characters", &[b'x'; 129]),
        key("two keys", b"a").header("idempotency-key", "b"),
    ]
}

fn credentials() -> Vec<Case> {
    let refused = |name, path: &'static str, value: &str| {
        case(name, "GET", path, 401, Kind::Unauthenticated).header("authorization", value)
    };
    vec![
        refused("no credential", "/api/v1/machines", ""),
        refused("another scheme", "/api/v1/machines", "Basic ZGZrX2dvb2Q6"),
        refused("a scheme alone", "/api/v1/machines", "Bearer"),
        refused(
            "not a credential of ours",
            "/api/v1/machines",
            "Bearer eyJhbGciOiJIUzI1NiJ9",
        ),
        refused(
            "a credential that identity refuses",
            "/api/v1/auth/me",
            "Bearer dfk_wrong",
        ),
        refused(
            "a credential of kilobytes",
            "/api/v1/auth/me",
            &format!("Bearer dfk_good{}", "x".repeat(2_000)),
        ),
        case(
            "no credential and a malformed body",
            "POST",
            ACTIONS,
            401,
            Kind::Unauthenticated,
        )
        .header("authorization", "")
        .body("{"),
        case(
            "no credential and a body too large",
            "POST",
            ACTIONS,
            401,
            Kind::Unauthenticated,
        )
        .header("authorization", "")
        .body(vec![b' '; 2 * 1024 * 1024]),
        case(
            "no credential and a malformed id",
            "GET",
            "/api/v1/machines/web-1",
            401,
            Kind::Unauthenticated,
        )
        .header("authorization", ""),
        case(
            "a wrong password",
            "POST",
            "/api/v1/auth/login",
            401,
            Kind::Unauthenticated,
        )
        .body(r#"{"email":"a@b","password":"wrong"}"#),
        case(
            "a refresh token used up",
            "POST",
            "/api/v1/auth/refresh",
            401,
            Kind::Unauthenticated,
        )
        .body(r#"{"refreshToken":"dfr_old"}"#),
        case(
            "an enrolment token used up",
            "POST",
            "/api/v1/agents/enroll",
            401,
            Kind::Unauthenticated,
        )
        .body(
            r#"{"token":"dfe_old","challenge":"c","publicKey":"U","signature":"s","hostname":"h"}"#,
        ),
    ]
}

fn paths_and_queries() -> Vec<Case> {
    let query = |name, path: &str| case(name, "GET", path, 400, Kind::Invalid);
    let samples = |query: &str| format!("/api/v1/machines/{HERE}/samples?{query}");
    vec![
        case(
            "an unknown path",
            "GET",
            "/api/v1/nothing",
            404,
            Kind::NotFound,
        ),
        case(
            "an unknown path without a credential",
            "GET",
            "/nothing",
            404,
            Kind::NotFound,
        )
        .header("authorization", ""),
        case(
            "a path with a slash at its end",
            "GET",
            "/api/v1/machines/",
            404,
            Kind::NotFound,
        ),
        case(
            "an unknown class of refusal",
            "GET",
            "/problems/nothing",
            404,
            Kind::NotFound,
        ),
        case(
            "an id that is no UUID",
            "GET",
            "/api/v1/machines/web-1",
            404,
            Kind::NotFound,
        ),
        case(
            "an action's id that is no UUID",
            "POST",
            "/api/v1/actions/7/cancel",
            404,
            Kind::NotFound,
        ),
        case(
            "a machine elsewhere",
            "GET",
            format!("/api/v1/machines/{ELSEWHERE}"),
            404,
            Kind::NotFound,
        ),
        case(
            "revoking a machine elsewhere",
            "DELETE",
            format!("/api/v1/machines/{ELSEWHERE}"),
            404,
            Kind::NotFound,
        ),
        case(
            "an action elsewhere",
            "GET",
            format!("/api/v1/actions/{ELSEWHERE}"),
            404,
            Kind::NotFound,
        ),
        case(
            "an action for a machine elsewhere",
            "POST",
            ACTIONS,
            404,
            Kind::NotFound,
        )
        .body(create(|b| b["machineId"] = json!(ELSEWHERE))),
        case(
            "a wrong method",
            "PUT",
            ACTIONS,
            405,
            Kind::MethodNotAllowed,
        ),
        case(
            "a wrong method at an id",
            "PATCH",
            format!("/api/v1/machines/{HERE}"),
            405,
            Kind::MethodNotAllowed,
        ),
        case(
            "a wrong method at a page",
            "POST",
            "/docs",
            405,
            Kind::MethodNotAllowed,
        ),
        query("limit 0", "/api/v1/machines?limit=0").names(["limit"]),
        query("limit 201", "/api/v1/actions?limit=201").names(["limit"]),
        query("limit -1", "/api/v1/machines?limit=-1").names(["limit"]),
        query("limit in words", &samples("limit=many")).names(["limit"]),
        query(
            "an unknown machine status",
            "/api/v1/machines?status=ASLEEP",
        )
        .names(["status"]),
        query("an unknown health", "/api/v1/machines?health=FINE").names(["health"]),
        query("an unknown order", "/api/v1/machines?sort=age").names(["sort"]),
        query("an unknown action status", "/api/v1/actions?status=DONE").names(["status"]),
        query(
            "a machineId that is no UUID",
            "/api/v1/actions?machineId=web-1",
        )
        .names(["machineId"]),
        query("from is no time", &samples("from=yesterday")).names(["from"]),
        query("to is no time", &samples("to=1700000000")).names(["to"]),
        query(
            "from after to",
            &samples("from=2026-01-09T00:00:00Z&to=2026-01-08T00:00:00Z"),
        )
        .names(["from"]),
    ]
}

fn owners() -> Vec<Case> {
    let action = |name, machine: &str, status, kind| {
        case(name, "POST", ACTIONS, status, kind).body(create(|b| b["machineId"] = json!(machine)))
    };
    vec![
        action(
            "an owner that asks for patience",
            BUSY,
            429,
            Kind::RateLimited,
        ),
        action(
            "an owner that does not answer in time",
            SLOW,
            503,
            Kind::OutcomeUnknown,
        ),
        case(
            "an action that has ended",
            "POST",
            format!("/api/v1/actions/{ENDED}/cancel"),
            409,
            Kind::Conflict,
        ),
    ]
}

#[tokio::test]
async fn bad_input_gets_its_status_its_class_and_its_path() {
    let world = World::new().await;
    let tables = [
        bodies(),
        sizes_and_types(),
        keys(),
        credentials(),
        paths_and_queries(),
        owners(),
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
    let bodies = Bodies::new(Duration::from_secs(1));
    let edge = Edge::new(
        inner.map_to_response(),
        Routes::default(),
        bodies,
        Vec::new(),
        Metrics::new().unwrap(),
    );
    let mut response = edge
        .get_response(Request::builder().uri_str("/panic").finish())
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
        .get_response(Request::builder().uri_str("/fine").finish())
        .await;
    assert_eq!(response.status().as_u16(), 200);
}

//! The table of bad input: what is sent, and what it gets.

use dashfleet_gateway::error::catalogue::Kind;
use serde_json::{Value, json};

use crate::standin::{BUSY, ELSEWHERE, ENDED, HERE, SLOW};
use crate::world::{Reply, World};

pub const ACTIONS: &str = "/api/v1/actions";

/// A request that is refused, and how.
pub struct Case {
    pub name: &'static str,
    pub method: &'static str,
    pub path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    pub status: u16,
    pub kind: Kind,
    pub paths: Vec<&'static str>,
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

    pub async fn ask(&self, world: &World) -> Reply {
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

fn create(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body =
        json!({ "machineId": HERE, "kind": "message", "payload": { "message": "hello" } });
    change(&mut body);
    body.to_string().into_bytes()
}

pub fn bodies() -> Vec<Case> {
    let wrong = |name, body: Vec<u8>| case(name, "POST", ACTIONS, 400, Kind::Invalid).body(body);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    vec![
        wrong("malformed JSON", b"{\"machineId\":".to_vec()).names(["body"]),
        wrong("not UTF-8", b"{\"machineId\":\"\xff\"}".to_vec()).names(["body"]),
        wrong("nested too deeply", deep.into_bytes()).names(["body"]),
        wrong("two values", b"{} {}".to_vec()).names(["body"]),
        wrong("a field twice", format!(r#"{{"machineId":"{HERE}","kind":"ping","kind":"reboot","payload":{{}}}}"#).into())
            .names(["kind"]),
        wrong("a field of the payload twice", br#"{"kind":"message","payload":{"message":"a","message":"b"}}"#.to_vec())
            .names(["payload.message"]),
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

pub fn sizes_and_types() -> Vec<Case> {
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

pub fn keys() -> Vec<Case> {
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

pub fn credentials() -> Vec<Case> {
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
            "somebody else's key",
            "POST",
            "/api/v1/agents/standing",
            403,
            Kind::Forbidden,
        )
        .body(r#"{"challenge":"c","publicKey":"U","signature":"s"}"#),
        case(
            "an enrolment token used up",
            "POST",
            "/api/v1/agents/enroll",
            403,
            Kind::Forbidden,
        )
        .body(
            r#"{"token":"dfe_old","challenge":"c","publicKey":"U","signature":"s","hostname":"h"}"#,
        ),
    ]
}

pub fn paths_and_queries() -> Vec<Case> {
    let query = |name, path: &str| case(name, "GET", path, 400, Kind::Invalid);
    let samples = |query: &str| format!("/api/v1/machines/{HERE}/samples?{query}");
    vec![
        query("an unknown parameter", "/api/v1/machines?labels=env").names(["labels"]),
        query(
            "parameters that are misspelt, and one twice",
            "/api/v1/actions?machine_id=x&limit=1&Limit=2&limit=1&status=QUEUED",
        )
        .names(["machine_id", "Limit", "limit"]),
        query("a parameter of nothing that has any", "/api/v1/auth/me?x").names(["x"]),
        query("a parameter of an open question", "/api/status?x=1")
            .header("authorization", "")
            .names(["x"]),
        case(
            "an unknown parameter of a change",
            "POST",
            format!("/api/v1/machines/{HERE}/release?force=true"),
            400,
            Kind::Invalid,
        )
        .names(["force"]),
        case(
            "an unknown parameter of a login",
            "POST",
            "/api/v1/auth/login?x=1",
            400,
            Kind::Invalid,
        )
        .header("authorization", "")
        .names(["x"]),
        case(
            "an unknown parameter without a credential",
            "GET",
            "/api/v1/machines?labels=env",
            401,
            Kind::Unauthenticated,
        )
        .header("authorization", ""),
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
            "PUT",
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

pub fn owners() -> Vec<Case> {
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

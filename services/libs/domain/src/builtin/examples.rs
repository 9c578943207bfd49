//! Configurations that can run and that cannot, for tests: the scheduler's and the worker's say the same of each.

use serde_json::{Map, Value, json};

use super::Builtin;
use super::Builtin::{Action, HttpCheck, HttpRequest, Noop, Sleep};

/// A configuration, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Whose.
    pub handler: Builtin,
    /// The configuration.
    pub config: Map<String, Value>,
    /// The path of the field that is wrong; none when it can run.
    pub wrong: Option<&'static str>,
}

/// All of them. None names a host that is there.
#[must_use]
pub fn examples() -> Vec<Example> {
    let good = good()
        .into_iter()
        .map(|(handler, config)| (handler, config, None));
    let bad = bad()
        .into_iter()
        .chain(bad_requests())
        .map(|(handler, config, path)| (handler, config, Some(path)));
    good.chain(bad)
        .map(|(handler, config, wrong)| Example {
            handler,
            config: config.as_object().cloned().unwrap_or_default(),
            wrong,
        })
        .collect()
}

const MACHINE: &str = "01930000-0000-7000-8000-000000000001";
const URL: &str = "https://shop.example/health";

fn good() -> Vec<(Builtin, Value)> {
    vec![
        (Noop, json!({})),
        (Noop, json!({ "any": [1, null] })),
        (Sleep, json!({ "ms": 0 })),
        (Sleep, json!({ "ms": 86_400_000 })),
        (HttpCheck, json!({ "url": URL })),
        (
            HttpCheck,
            json!({ "url": URL, "method": null, "expectedStatus": null, "timeoutMs": null, "headers": null }),
        ),
        (
            HttpCheck,
            json!({ "url": "http://grün.example:8080/ä?ö#ü", "method": "HEAD", "expectedStatus": [200, 599] }),
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": statuses(32), "timeoutMs": 300_000 }),
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": 503, "timeoutMs": 100 }),
        ),
        (HttpRequest, json!({ "url": URL, "method": "POST" })),
        (HttpRequest, json!({ "url": URL, "method": "options" })),
        (
            HttpRequest,
            json!({ "url": URL, "method": "PUT", "headers": { "X-A": "b\tc", "y": "" }, "body": { "x": [1] } }),
        ),
        (
            HttpRequest,
            json!({ "url": URL, "method": "PATCH", "headers": numbered(64, "b"), "body": "text" }),
        ),
        (Action, json!({ "machineId": MACHINE, "kind": "ping" })),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "restart", "payload": null, "notAfterMs": null }),
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "reboot", "payload": {}, "notAfterMs": 2_592_000_000_u64 }),
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "message", "payload": { "message": "Maintenance at ten." }, "notAfterMs": 1 }),
        ),
    ]
}

fn bad() -> Vec<(Builtin, Value, &'static str)> {
    let message = "payload.message";
    vec![
        (Sleep, json!({}), "ms"),
        (Sleep, json!({ "ms": null }), "ms"),
        (Sleep, json!({ "ms": "1" }), "ms"),
        (Sleep, json!({ "ms": 1.5 }), "ms"),
        (Sleep, json!({ "ms": -1 }), "ms"),
        (Sleep, json!({ "ms": 86_400_001 }), "ms"),
        (Sleep, json!({ "ms": 1, "x": 2 }), "x"),
        (Sleep, json!({ "ms": 1, "x": null }), "x"),
        (Action, json!({}), "machineId"),
        (
            Action,
            json!({ "machineId": 7, "kind": "ping" }),
            "machineId",
        ),
        (
            Action,
            json!({ "machineId": "x", "kind": "ping" }),
            "machineId",
        ),
        (Action, json!({ "machineId": MACHINE }), "kind"),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "boil" }),
            "kind",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": ["ping"] }),
            "kind",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "ping", "payload": [] }),
            "payload",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "ping", "payload": { "x": 1 } }),
            "payload.x",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "message" }),
            message,
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "message", "payload": {} }),
            message,
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "ping", "notAfterMs": 0 }),
            "notAfterMs",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "ping", "notAfterMs": 2_592_000_001_u64 }),
            "notAfterMs",
        ),
        (
            Action,
            json!({ "machineId": MACHINE, "kind": "ping", "when": 1 }),
            "when",
        ),
    ]
}

fn bad_requests() -> Vec<(Builtin, Value, &'static str)> {
    let mut bad = vec![
        (HttpCheck, json!({}), "url"),
        (HttpCheck, json!({ "url": 7 }), "url"),
        (
            HttpCheck,
            json!({ "url": URL, "expected": 200 }),
            "expected",
        ),
        (HttpCheck, json!({ "url": URL, "body": "x" }), "body"),
        (HttpCheck, json!({ "url": URL, "method": "POST" }), "method"),
        (HttpCheck, json!({ "url": URL, "method": 7 }), "method"),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": 99 }),
            "expectedStatus",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": 600 }),
            "expectedStatus",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": "up" }),
            "expectedStatus",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": [] }),
            "expectedStatus",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": statuses(33) }),
            "expectedStatus",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "expectedStatus": [200, "x"] }),
            "expectedStatus[1]",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "timeoutMs": 99 }),
            "timeoutMs",
        ),
        (
            HttpCheck,
            json!({ "url": URL, "timeoutMs": 300_001 }),
            "timeoutMs",
        ),
        (HttpRequest, json!({ "url": URL }), "method"),
        (
            HttpRequest,
            json!({ "url": URL, "method": "CONNECT" }),
            "method",
        ),
        (
            HttpRequest,
            json!({ "url": URL, "method": "GET", "timeoutMs": 600_000 }),
            "timeoutMs",
        ),
        (
            HttpRequest,
            json!({ "url": URL, "method": "GET", "expectedStatus": 200 }),
            "expectedStatus",
        ),
    ];
    let urls = [
        "",
        "shop.example",
        "ftp://shop.example/",
        "https:///shop.example",
        "https://?a",
        "https://./",
        "https://shop example/",
        "https://shop.example/a\nb",
        "https://user@shop.example/",
        "https://user:secret@shop.example/",
        "https://shop.example:0/",
        "https://shop.example:65536/",
        "https://1.2.3.400/",
        "https://[::z]/",
    ];
    bad.extend(urls.map(|url| (HttpCheck, json!({ "url": url }), "url")));
    // Too long as it is, and as it is sent.
    for rest in ["x".repeat(4_096), "ü".repeat(1_500)] {
        let url = format!("https://shop.example/{rest}");
        bad.push((HttpCheck, json!({ "url": url }), "url"));
    }
    let long = "x".repeat(9_000);
    let headers = [
        (json!([]), "headers"),
        (json!("a: b"), "headers"),
        (Value::Object(numbered(65, "b")), "headers"),
        (Value::Object(numbered(2, &long)), "headers"),
        (json!({ "a": 1 }), "headers.a"),
        (json!({ "a": "b\n" }), "headers.a"),
        (json!({ "a": "grün" }), "headers.a"),
        (json!({ "": "b" }), "headers."),
        (json!({ "a b": "c" }), "headers.a b"),
        (json!({ "Host": "shop.example" }), "headers.Host"),
        (
            json!({ "transfer-encoding": "chunked" }),
            "headers.transfer-encoding",
        ),
    ];
    let request = |headers: Value| json!({ "url": URL, "method": "GET", "headers": headers });
    bad.extend(headers.map(|(headers, path)| (HttpRequest, request(headers), path)));
    bad
}

/// So many statuses.
fn statuses(count: usize) -> Vec<u16> {
    vec![100; count]
}

/// So many headers.
fn numbered(count: usize, value: &str) -> Map<String, Value> {
    (0..count)
        .map(|number| (format!("x-{number}"), json!(value)))
        .collect()
}

//! The handlers that there are, and what each takes. A configuration that could never run is refused when it is given, with the
//! field's name; what only the moment shows (a host that does not answer, a right that somebody lost) is the worker's to find.

use std::ops::RangeInclusive;

use contract::Problem;
use domain::MachineId;
use domain::action::{ActionKind, Payload};
use serde_json::{Map, Value};

/// All handlers.
pub const HANDLERS: [&str; 5] = [
    "builtin/noop",
    "builtin/sleep",
    "builtin/http-check",
    "builtin/http-request",
    "builtin/action",
];
/// How long `builtin/sleep` sleeps, in milliseconds: at most a day.
const SLEEP_MS: RangeInclusive<u64> = 0..=86_400_000;
/// How long a request may take, in milliseconds.
const REQUEST_MS: RangeInclusive<u64> = 100..=600_000;
/// The longest URL.
const URL_MAX_BYTES: usize = 4_096;
/// Headers of a request, and the longest name and value.
const HEADERS_MAX: usize = 64;
const HEADER_NAME_MAX_BYTES: usize = 128;
const HEADER_VALUE_MAX_BYTES: usize = 8 * 1024;
/// Statuses of HTTP.
const STATUSES: RangeInclusive<u64> = 100..=599;
/// The most statuses that may be expected.
const STATUSES_MAX: usize = 32;
/// How long an action may wait for its machine, in milliseconds: at most thirty days.
const NOT_AFTER_MS: RangeInclusive<u64> = 1..=30 * 86_400_000;
/// What is asked of a page that is only looked at.
const CHECK_METHODS: [&str; 2] = ["GET", "HEAD"];
/// What may be asked of any.
const REQUEST_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Checks a handler's name and what it is given.
///
/// # Errors
/// INVALID naming `handler`, or a field of `config`.
pub fn check(handler: &str, config: &Map<String, Value>) -> Result<(), Problem> {
    match handler {
        "builtin/noop" => Ok(()),
        "builtin/sleep" => number(config, "ms", &SLEEP_MS, true),
        "builtin/http-check" => {
            check_request(config, &CHECK_METHODS, false)?;
            check_statuses(config)
        }
        "builtin/http-request" => check_request(config, &REQUEST_METHODS, true),
        "builtin/action" => check_action(config),
        other => {
            let shown: String = other.chars().take(64).collect();
            let message = format!("`{shown}` is unknown; known are {}", HANDLERS.join(", "));
            Err(Problem::invalid("handler", message))
        }
    }
}

fn wrong(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(format!("config.{field}"), message)
}

/// A field that is there; `null` is the same as absent.
fn given<'a>(config: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    config.get(field).filter(|value| !value.is_null())
}

fn required<'a>(config: &'a Map<String, Value>, field: &str) -> Result<&'a Value, Problem> {
    given(config, field).ok_or_else(|| wrong(field, "is required"))
}

fn number(
    config: &Map<String, Value>,
    field: &str,
    range: &RangeInclusive<u64>,
    is_required: bool,
) -> Result<(), Problem> {
    let value = match given(config, field) {
        Some(value) => value,
        None if is_required => return Err(wrong(field, "is required")),
        None => return Ok(()),
    };
    if value.as_u64().is_some_and(|number| range.contains(&number)) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    let message = format!("must be an integer from {least} to {most}");
    Err(wrong(field, message))
}

fn check_request(
    config: &Map<String, Value>,
    methods: &[&str],
    needs_method: bool,
) -> Result<(), Problem> {
    check_url(required(config, "url")?)?;
    match given(config, "method") {
        Some(Value::String(method)) if methods.contains(&method.as_str()) => {}
        None if !needs_method => {}
        None => return Err(wrong("method", "is required")),
        Some(_) => {
            let message = format!("must be one of {}", methods.join(", "));
            return Err(wrong("method", message));
        }
    }
    if let Some(headers) = given(config, "headers") {
        check_headers(headers)?;
    }
    number(config, "timeoutMs", &REQUEST_MS, false)
}

fn check_url(url: &Value) -> Result<(), Problem> {
    let Value::String(url) = url else {
        return Err(wrong("url", "must be a string"));
    };
    if url.len() > URL_MAX_BYTES {
        let message = format!("has {} bytes; at most {URL_MAX_BYTES}", url.len());
        return Err(wrong("url", message));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    if host.is_none_or(str::is_empty) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message = "must be a URL that begins with http:// or https:// and names a host";
        return Err(wrong("url", message));
    }
    Ok(())
}

fn check_headers(headers: &Value) -> Result<(), Problem> {
    let Value::Object(headers) = headers else {
        return Err(wrong("headers", "must be an object of strings"));
    };
    if headers.len() > HEADERS_MAX {
        let message = format!("has {} fields; at most {HEADERS_MAX}", headers.len());
        return Err(wrong("headers", message));
    }
    for (name, value) in headers {
        let shown: String = name.chars().take(64).collect();
        let field = format!("headers.{shown}");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > HEADER_NAME_MAX_BYTES || !name.bytes().all(is_name) {
            return Err(wrong(&field, "is not the name of a header"));
        }
        let Value::String(value) = value else {
            return Err(wrong(&field, "must be a string"));
        };
        if value.len() > HEADER_VALUE_MAX_BYTES || value.chars().any(char::is_control) {
            let message = format!(
                "must have at most {HEADER_VALUE_MAX_BYTES} bytes, and no control characters"
            );
            return Err(wrong(&field, message));
        }
    }
    Ok(())
}

fn check_statuses(config: &Map<String, Value>) -> Result<(), Problem> {
    let fits = |status: &Value| {
        status
            .as_u64()
            .is_some_and(|status| STATUSES.contains(&status))
    };
    let field = "expectedStatus";
    match given(config, field) {
        None => Ok(()),
        Some(Value::Array(all)) if (1..=STATUSES_MAX).contains(&all.len()) => {
            match all.iter().position(|status| !fits(status)) {
                None => Ok(()),
                Some(index) => Err(wrong(
                    &format!("{field}[{index}]"),
                    "must be an integer from 100 to 599",
                )),
            }
        }
        Some(one) if fits(one) => Ok(()),
        Some(_) => {
            let message = format!(
                "must be an integer from 100 to 599, or a list of 1 to {STATUSES_MAX} of them"
            );
            Err(wrong(field, message))
        }
    }
}

fn check_action(config: &Map<String, Value>) -> Result<(), Problem> {
    let machine = required(config, "machineId")?.as_str();
    if machine.is_none_or(|machine| machine.parse::<MachineId>().is_err()) {
        return Err(wrong("machineId", "must be the id of a machine"));
    }
    let kind = required(config, "kind")?.as_str().unwrap_or_default();
    let kind: ActionKind = kind
        .parse()
        .map_err(|message: String| wrong("kind", message))?;
    let payload = required(config, "payload")?;
    Payload::parse(kind, payload).map_err(|error| wrong(&error.path, error.message))?;
    number(config, "notAfterMs", &NOT_AFTER_MS, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(handler: &str, config: &Value) -> String {
        let config = config.as_object().expect("an object");
        match check(handler, config) {
            Ok(()) => String::new(),
            Err(problem) => problem
                .errors
                .first()
                .map(|error| error.path.clone())
                .expect("a field"),
        }
    }

    #[test]
    fn what_could_never_run_is_refused_with_its_field() {
        let machine = MachineId::new().to_string();
        let url = "https://example.org/health";
        let table = [
            ("builtin/nothing", json!({}), "handler"),
            ("builtin/noop", json!({ "any": [1, null] }), ""),
            ("builtin/sleep", json!({}), "config.ms"),
            ("builtin/sleep", json!({ "ms": null }), "config.ms"),
            ("builtin/sleep", json!({ "ms": "1" }), "config.ms"),
            ("builtin/sleep", json!({ "ms": -1 }), "config.ms"),
            ("builtin/sleep", json!({ "ms": 86_400_001 }), "config.ms"),
            ("builtin/sleep", json!({ "ms": 86_400_000 }), ""),
            ("builtin/http-check", json!({}), "config.url"),
            (
                "builtin/http-check",
                json!({ "url": "ftp://x" }),
                "config.url",
            ),
            (
                "builtin/http-check",
                json!({ "url": "https:///x" }),
                "config.url",
            ),
            (
                "builtin/http-check",
                json!({ "url": "https://a b" }),
                "config.url",
            ),
            ("builtin/http-check", json!({ "url": url }), ""),
            (
                "builtin/http-check",
                json!({ "url": url, "method": "POST" }),
                "config.method",
            ),
            (
                "builtin/http-check",
                json!({ "url": url, "expectedStatus": 99 }),
                "config.expectedStatus",
            ),
            (
                "builtin/http-check",
                json!({ "url": url, "expectedStatus": [] }),
                "config.expectedStatus",
            ),
            (
                "builtin/http-check",
                json!({ "url": url, "expectedStatus": [200, "x"] }),
                "config.expectedStatus[1]",
            ),
            (
                "builtin/http-check",
                json!({ "url": url, "expectedStatus": [200, 204], "method": "HEAD" }),
                "",
            ),
            (
                "builtin/http-check",
                json!({ "url": url, "timeoutMs": 0 }),
                "config.timeoutMs",
            ),
            (
                "builtin/http-request",
                json!({ "url": url }),
                "config.method",
            ),
            (
                "builtin/http-request",
                json!({ "url": url, "method": "POST", "headers": [] }),
                "config.headers",
            ),
            (
                "builtin/http-request",
                json!({ "url": url, "method": "POST", "headers": { "a b": "c" } }),
                "config.headers.a b",
            ),
            (
                "builtin/http-request",
                json!({ "url": url, "method": "POST", "headers": { "a": "c\n" } }),
                "config.headers.a",
            ),
            (
                "builtin/http-request",
                json!({ "url": url, "method": "POST", "headers": { "A": "c" }, "body": { "x": 1 } }),
                "",
            ),
            ("builtin/action", json!({}), "config.machineId"),
            (
                "builtin/action",
                json!({ "machineId": "x" }),
                "config.machineId",
            ),
            (
                "builtin/action",
                json!({ "machineId": machine, "kind": "boil" }),
                "config.kind",
            ),
            (
                "builtin/action",
                json!({ "machineId": machine, "kind": "message", "payload": {} }),
                "config.payload.message",
            ),
            (
                "builtin/action",
                json!({ "machineId": machine, "kind": "ping", "payload": {}, "notAfterMs": 0 }),
                "config.notAfterMs",
            ),
            (
                "builtin/action",
                json!({ "machineId": machine, "kind": "ping", "payload": {} }),
                "",
            ),
        ];
        for (handler, config, expected) in table {
            assert_eq!(path(handler, &config), expected, "{handler} {config}");
        }
    }

    #[test]
    fn every_handler_is_known() {
        for handler in HANDLERS {
            assert_ne!(path(handler, &json!({})), "handler");
        }
    }
}

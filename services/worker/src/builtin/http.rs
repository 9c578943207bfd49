//! What `http-check` and `http-request` have in common: a request from a configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use egress::{Method, Request};
use serde_json::Value;

use crate::builtin::{Fields, wrong};
use crate::handler::{Context, Failure};

/// How long a request may be allowed to take, in milliseconds.
const TIMEOUT_MS: RangeInclusive<u64> = 100..=300_000;

/// The request that `url`, `method`, `headers` and `timeoutMs` describe. The port of its URL may be used: whoever made the job named
/// it.
pub(crate) fn request(
    context: &Context,
    fields: &Fields<'_>,
    timeout: Duration,
) -> Result<Request, Failure> {
    let url = fields.required("url", fields.text("url")?)?;
    let mut request = Request::get(context.org.0, url).naming_its_port();
    if let Some(method) = fields.text("method")? {
        request.method = method_of(method)?;
    }
    request.headers = headers(fields)?;
    request.limit = fields
        .whole("timeoutMs", &TIMEOUT_MS)?
        .map_or(timeout, Duration::from_millis);
    Ok(request)
}

fn method_of(text: &str) -> Result<Method, Failure> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    known
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| wrong("method", &format!("must be one of {}", names.join(", "))))
}

fn headers(fields: &Fields<'_>) -> Result<Vec<(String, String)>, Failure> {
    let Some(value) = fields.value("headers") else {
        return Ok(Vec::new());
    };
    let shape = || wrong("headers", "must be an object of texts");
    value
        .as_object()
        .ok_or_else(shape)?
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            _ => Err(shape()),
        })
        .collect()
}

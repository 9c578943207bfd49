//! `builtin/http-check {url, method?, expectedStatus?, timeoutMs?, headers?}`: is it there, and does it answer as it should?

use std::time::{Duration, Instant};

use domain::OrgId;
use domain::builtin::{CheckConfig, Given};
use egress::{Request, Take};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::builtin::http;
use crate::handler::{Context, Failure, Handler, Level};

/// How long an answer may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The handler. `expectedStatus` is a status or a list of them; without it every 2xx is good. It returns `{status, ok,
/// durationMs}`, and fails when the status is another one or there is no answer. Redirects are followed, unless a 3xx is expected.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpCheck;

impl Handler for HttpCheck {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(check(context))
    }
}

async fn check(context: &Context) -> Result<Value, Failure> {
    let (request, expected) = request(context.org, &context.config)?;
    let asked = format!("{} {}", request.method, request.url);
    let began = Instant::now();
    let answer = context.fetch(request).await.inspect_err(|failure| {
        context.log(Level::Error, &format!("{asked}: {}", failure.message));
    })?;
    let took = began.elapsed().as_millis();
    let status = answer.status;
    let good = if expected.is_empty() {
        (200..300).contains(&status)
    } else {
        expected.contains(&status)
    };
    if good {
        context.log(Level::Info, &format!("{asked}: {status} after {took} ms"));
        return Ok(json!({ "status": status, "ok": true, "durationMs": took as u64 }));
    }
    let wanted = if expected.is_empty() {
        "2xx".to_owned()
    } else {
        let list: Vec<String> = expected.iter().map(ToString::to_string).collect();
        list.join(" or ")
    };
    let message = format!("{asked}: {status} after {took} ms; expected {wanted}");
    context.log(Level::Error, &message);
    Err(Failure::new(message))
}

/// What is asked, and the statuses that are good: none for every 2xx.
pub(super) fn request(
    org: OrgId,
    config: &Map<String, Value>,
) -> Result<(Request, Vec<u16>), Failure> {
    let config = CheckConfig::read(Given::of(config))?;
    let mut request = http::request(org, &config.asked, TIMEOUT)?;
    request.take = Take::Head;
    if config
        .expected
        .iter()
        .any(|status| (300..400).contains(status))
    {
        request.redirects = 0;
    }
    Ok((request, config.expected))
}

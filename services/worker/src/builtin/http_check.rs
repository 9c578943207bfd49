//! `builtin/http-check {url, method?, expectedStatus?, timeoutMs?, headers?}`: is it there, and does it answer as it should?

use std::time::{Duration, Instant};

use egress::Take;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::builtin::{Fields, http, wrong};
use crate::handler::{Context, Failure, Handler, Level};

/// How long an answer may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most statuses that may be expected.
const STATUSES_MAX: usize = 32;

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
    let known = ["url", "method", "expectedStatus", "timeoutMs", "headers"];
    let fields = Fields::new(&context.config, &known)?;
    let mut request = http::request(context, &fields, TIMEOUT)?;
    let expected = expected(&fields)?;
    request.take = Take::Head;
    if expected.iter().any(|status| (300..400).contains(status)) {
        request.redirects = 0;
    }
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

/// The statuses that are good; none for every 2xx.
fn expected(fields: &Fields<'_>) -> Result<Vec<u16>, Failure> {
    let shape = || {
        wrong(
            "expectedStatus",
            &format!("must be a status from 100 to 599, or a list of 1 to {STATUSES_MAX} of them"),
        )
    };
    let status = |value: &Value| {
        value
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (100..600).contains(status))
            .ok_or_else(shape)
    };
    match fields.value("expectedStatus") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if (1..=STATUSES_MAX).contains(&list.len()) => {
            list.iter().map(status).collect()
        }
        Some(one) => Ok(vec![status(one)?]),
    }
}

//! `builtin/http-request {url, method, headers?, body?, timeoutMs?}`: a request, and what came back.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::OrgId;
use domain::builtin::{Given, RequestConfig};
use domain::execution::RESULT_MAX_BYTES;
use egress::{Request, Response, Take};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::builtin::http;
use crate::handler::{Context, Failure, Handler, Level};

/// How long an answer may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer's body is kept, in bytes.
const BODY_MAX_BYTES: usize = 40 * 1024;
/// How much of an answer's headers is kept, names and values, in bytes.
const HEADERS_MAX_BYTES: usize = 8 * 1024;

/// The handler. A `body` that is a text is sent as it is, another one as JSON. It returns `{status, headers, body, encoding,
/// truncated}`, whatever the status: `encoding` is `text` or `base64`, for what is no text. It fails when there is no answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpRequest;

impl Handler for HttpRequest {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(ask(context))
    }
}

async fn ask(context: &Context) -> Result<Value, Failure> {
    let request = request(context.org, &context.config)?;
    let asked = format!("{} {}", request.method, request.url);
    let answer = context.fetch(request).await.inspect_err(|failure| {
        context.log(Level::Error, &format!("{asked}: {}", failure.message));
    })?;
    context.log(Level::Info, &format!("{asked}: {}", answer.status));
    Ok(shown(&answer))
}

/// What is asked.
pub(super) fn request(org: OrgId, config: &Map<String, Value>) -> Result<Request, Failure> {
    let config = RequestConfig::read(Given::of(config))?;
    let mut request = http::request(org, &config.asked, TIMEOUT)?;
    request.take = Take::First(BODY_MAX_BYTES);
    match config.body {
        None => {}
        Some(Value::String(text)) => request.body = Bytes::from(text.clone()),
        Some(value) => {
            request.body = Bytes::from(value.to_string());
            let said = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
            if !request.headers.iter().any(said) {
                let json = ("content-type".to_owned(), "application/json".to_owned());
                request.headers.push(json);
            }
        }
    }
    Ok(request)
}

/// An answer as a result: as much of it as fits.
fn shown(answer: &Response) -> Value {
    let headers = headers(&answer.headers);
    let mut most = answer.body.len();
    loop {
        let part = answer.body.get(..most).unwrap_or_default();
        let (body, encoding) = body(part);
        let value = json!({
            "status": answer.status,
            "headers": headers,
            "body": body,
            "encoding": encoding,
            "truncated": answer.truncated || most < answer.body.len(),
        });
        // Characters that JSON escapes take up to six times as much.
        if most == 0 || value.to_string().len() <= RESULT_MAX_BYTES {
            return value;
        }
        most /= 2;
    }
}

/// Text, when it is one that can be stored: a character that the end cuts in two is left out.
fn body(bytes: &[u8]) -> (String, &'static str) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => bytes
            .get(..error.valid_up_to())
            .and_then(|bytes| std::str::from_utf8(bytes).ok()),
        Err(_) => None,
    };
    match text.filter(|text| !text.contains('\0')) {
        Some(text) => (text.to_owned(), "text"),
        None => (STANDARD.encode(bytes), "base64"),
    }
}

/// By name; several of one name are joined as RFC 9110 says.
fn headers(all: &[(String, String)]) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    let mut bytes = 0;
    for (name, value) in all {
        bytes += name.len() + value.len();
        if bytes > HEADERS_MAX_BYTES {
            break;
        }
        match map.get_mut(name) {
            Some(Value::String(text)) => {
                text.push_str(", ");
                text.push_str(value);
            }
            _ => {
                map.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8], truncated: bool) -> Response {
        Response {
            status: 200,
            headers: vec![
                ("x-a".into(), "1".into()),
                ("x-a".into(), "2".into()),
                ("x-b".into(), "3".into()),
            ],
            body: Bytes::copy_from_slice(body),
            truncated,
            url: "http://shop.example/".into(),
        }
    }

    #[test]
    fn text_is_text_and_the_rest_is_base64() {
        let value = shown(&answer("grün".as_bytes(), false));
        assert_eq!(
            (&value["body"], &value["encoding"]),
            (&json!("grün"), &json!("text"))
        );
        assert_eq!(value["headers"], json!({ "x-a": "1, 2", "x-b": "3" }));
        assert_eq!(value["truncated"], false);
        for binary in [&b"\xff\xfe\x00"[..], b"a\0b"] {
            let value = shown(&answer(binary, false));
            assert_eq!(value["encoding"], "base64");
            assert_eq!(value["body"], STANDARD.encode(binary));
        }
        let cut = shown(&answer(&"grün".as_bytes()[..3], true));
        assert_eq!(
            (&cut["body"], &cut["truncated"]),
            (&json!("gr"), &json!(true))
        );
    }

    #[test]
    fn whatever_comes_back_fits_into_a_result() {
        for body in [
            vec![1u8; BODY_MAX_BYTES],
            vec![0xff; BODY_MAX_BYTES],
            vec![b'x'; BODY_MAX_BYTES],
        ] {
            let mut answer = answer(&body, false);
            answer.headers = (0..1_000)
                .map(|n| (format!("x-{n}"), "\"".repeat(100)))
                .collect();
            let value = shown(&answer);
            assert!(
                value.to_string().len() <= RESULT_MAX_BYTES,
                "{}",
                value.to_string().len()
            );
            assert_eq!(value["status"], 200);
        }
    }
}

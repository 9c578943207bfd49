//! Errors: why the gateway itself cannot run, and how a refusal becomes a response. This is the only place where
//! HTTP meets [`ProblemKind`]; every refusal is `application/problem+json` (RFC 9457).

pub mod catalogue;

use std::time::Duration;

use bus::BusError;
use contract::{FieldError, Problem, ProblemKind};
use poem::error::{MethodNotAllowedError, NotFoundError, ResponseError};
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::error::{ParseParamError, ParsePathError};
use runtime::ConfigError;
use serde::Serialize;

use self::catalogue::Kind;

/// The media type of every refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The media type of refusals on the routes of Dash-Fleet.
const JSON: &str = "application/json";
/// `Retry-After` where the owner of the refusal names none, in seconds.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A variable cannot be used.
    #[error("bad configuration: {0}")]
    Config(#[from] ConfigError),
    /// The bus client cannot be made.
    #[error("the bus: {0}")]
    Bus(#[from] BusError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A collector cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// What was under way did not end within `DASHFLEET_SHUTDOWN_MS`.
    #[error("what was under way did not end in time")]
    Unfinished,
}

/// A refusal on its way to a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// Its class.
    pub kind: Kind,
    /// A sentence for a person.
    pub detail: String,
    /// The fields that are wrong.
    pub errors: Vec<FieldError>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Which methods the path knows.
    pub allow: Option<HeaderValue>,
    /// Whether a credential was presented; a client that presented none need not throw one away.
    pub presented: bool,
}

impl Refused {
    /// A refusal without more.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind,
            detail,
            errors: Vec::new(),
            retry_after: None,
            allow: None,
            presented: true,
        }
    }

    /// Fields are wrong.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.path, only.message),
            many => format!("{} fields are not valid", many.len()),
        };
        Self {
            errors,
            ..Self::new(Kind::Invalid, detail)
        }
    }

    /// No credential was presented.
    #[must_use]
    pub fn no_credential() -> Self {
        let detail =
            "this needs a credential: `Authorization: Bearer` with an access token or an API key";
        Self {
            presented: false,
            ..Self::new(Kind::Unauthenticated, detail)
        }
    }

    /// Too many requests.
    pub fn rate_limited(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Kind::RateLimited, detail)
        }
    }

    /// The refusal that poem's own errors mean; the same 404 for whatever is not there.
    #[must_use]
    pub fn from_poem(error: &poem::Error) -> Self {
        if let Some(refused) = error.downcast_ref::<Self>() {
            return refused.clone();
        }
        if let Some(parameter) = error.downcast_ref::<ParseParamError>() {
            let message = reason(&parameter.reason);
            return Self::invalid(vec![FieldError {
                path: parameter.name.to_owned(),
                message,
            }]);
        }
        if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
            return Self::new(Kind::NotFound, "there is nothing at this path");
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(
                Kind::MethodNotAllowed,
                "the path is known, the method is not one of its",
            );
        }
        match error.status() {
            status if status.is_client_error() => Self::new(Kind::Invalid, error.to_string()),
            status => {
                tracing::error!(%error, status = status.as_u16(), "a request failed in a way that nobody foresaw");
                Self::internal()
            }
        }
    }

    /// Our fault. The detail is in the log, under the trace id.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "something went wrong here; the trace id leads to it in the logs",
        )
    }

    /// The response. `instance` is the path that was asked, `trace_id` leads to the logs.
    #[must_use]
    pub fn response(&self, instance: &str, trace_id: &str) -> Response {
        let document = Document {
            kind: self.kind.reference(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance,
            trace_id,
            errors: &self.errors,
        };
        // A struct of texts and numbers always encodes.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::builder()
            .status(self.kind.status())
            .content_type(PROBLEM_JSON)
            .body(body);
        let headers = response.headers_mut();
        if self.kind == Kind::Unauthenticated {
            let challenge = if self.presented {
                "Bearer realm=\"dashfleet\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"dashfleet\""
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        self.directions(headers);
        response
    }
}

/// A refusal as agents and scripts of Dash-Fleet read it.
#[derive(Serialize)]
struct LegacyDocument<'a> {
    error: &'a str,
}

impl Refused {
    /// The response on a route of Dash-Fleet: `{"error": …}`, and 403 for a key that is missing or not accepted.
    #[must_use]
    pub fn legacy_response(&self) -> Response {
        let kind = match self.kind {
            Kind::Unauthenticated => Kind::Forbidden,
            kind => kind,
        };
        let document = LegacyDocument {
            error: &self.detail,
        };
        let mut response = Response::builder()
            .status(kind.status())
            .content_type(JSON)
            .body(serde_json::to_vec(&document).unwrap_or_default());
        self.directions(response.headers_mut());
        response
    }

    /// When to try again, and which methods there are.
    fn directions(&self, headers: &mut HeaderMap) {
        if self.kind.retry() {
            let after = self.retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
            let seconds = after.as_millis().div_ceil(1_000).max(1);
            if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, seconds);
            }
        }
        if let Some(allow) = &self.allow {
            headers.insert(header::ALLOW, allow.clone());
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::Invalid => Kind::Invalid,
            ProblemKind::Unauthenticated => Kind::Unauthenticated,
            ProblemKind::Forbidden => Kind::Forbidden,
            ProblemKind::NotFound => Kind::NotFound,
            ProblemKind::Conflict => Kind::Conflict,
            ProblemKind::TooLarge => Kind::TooLarge,
            ProblemKind::RateLimited => Kind::RateLimited,
            ProblemKind::Unavailable => Kind::Unavailable,
            ProblemKind::OutcomeUnknown => Kind::OutcomeUnknown,
            ProblemKind::Internal => Kind::Internal,
        };
        Self {
            errors: problem.errors,
            retry_after: problem.retry_after_ms.map(Duration::from_millis),
            ..Self::new(kind, problem.detail)
        }
    }
}

impl ResponseError for Refused {
    fn status(&self) -> StatusCode {
        self.kind.status()
    }

    fn as_response(&self) -> Response {
        self.response("", "")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.as_response()
    }
}

/// A problem document, in the order in which a person reads it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(rename = "traceId")]
    trace_id: &'a str,
    errors: &'a [FieldError],
}

/// The framework says `failed to parse "integer_uint32": …`; people want what comes after it.
fn reason(text: &str) -> String {
    match text
        .strip_prefix("failed to parse \"")
        .and_then(|rest| rest.split_once("\": "))
    {
        Some((_, reason)) => reason.to_owned(),
        None if text.ends_with("expects an input value.") => "is required".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_problem_has_its_status() {
        for (kind, status) in [
            (ProblemKind::Invalid, 400),
            (ProblemKind::Unauthenticated, 401),
            (ProblemKind::Forbidden, 403),
            (ProblemKind::NotFound, 404),
            (ProblemKind::Conflict, 409),
            (ProblemKind::TooLarge, 413),
            (ProblemKind::RateLimited, 429),
            (ProblemKind::Unavailable, 503),
            (ProblemKind::OutcomeUnknown, 503),
            (ProblemKind::Internal, 500),
        ] {
            let response = Refused::from(Problem::new(kind, "why")).response("/x", "t");
            assert_eq!(response.status().as_u16(), status, "{kind:?}");
            assert_eq!(response.content_type(), Some(PROBLEM_JSON), "{kind:?}");
            let retry = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(retry, matches!(status, 429 | 503), "{kind:?}");
            assert_eq!(
                response.headers().contains_key(header::WWW_AUTHENTICATE),
                status == 401,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn waiting_is_rounded_up_to_a_second() {
        let response =
            Refused::rate_limited("slow down", Duration::from_millis(1_001)).response("/x", "t");
        assert_eq!(
            response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()),
            Some("2")
        );
    }

    #[test]
    fn the_frameworks_words_are_left_out() {
        assert_eq!(
            reason("failed to parse \"integer_uint32\": invalid digit"),
            "invalid digit"
        );
        assert_eq!(
            reason("Type \"string\" expects an input value."),
            "is required"
        );
    }
}

//! JSON in and out. What travels is a message of the contract, encoded once: by its owner, if the gateway has nothing to add
//! ([`Passed`]). What the document shows of it is its [`Documented::Schema`], and a test holds both together.

pub mod keys;

use std::sync::Arc;

use bus::Unread;
use contract::FieldError;
use poem::http::{HeaderMap, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::credentials::Credentials;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::visit::Visit;
use crate::{body, document, shape};

/// The media type of bodies.
pub const JSON: &str = "application/json";
/// The most fields given twice that one answer names.
const TWICE_MAX: usize = 32;
/// Where sessions begin. What is open there costs a slow hash or a signature.
const SESSIONS: &str = "/api/v1/auth/";

/// A message and what the document shows of it.
pub trait Documented: Send {
    /// The documented object.
    type Schema: Type;
    /// Whether a field that the document does not have is refused: a misspelt `notAfter` must not be overlooked. Not
    /// where newer agents speak to an older gateway.
    const STRICT: bool = true;

    /// Whether the document says that there must be a body. (An empty one is `{}` anyway.)
    const REQUIRED: bool = true;

    /// What is wrong with a body that its schema cannot say: which fields go together.
    fn rules(_body: &Value) -> Vec<FieldError> {
        Vec::new()
    }
}

/// What is wrong with a body of whose two fields exactly one is to be given.
#[must_use]
pub fn exactly_one(body: &Value, first: &str, second: &str) -> Vec<FieldError> {
    let given = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    match (given(first), given(second)) {
        // A body that is no object is refused as such.
        (false, false) if body.is_object() => vec![neither(first, second)],
        (true, true) => vec![FieldError {
            path: second.to_owned(),
            message: format!("must not be given beside `{first}`"),
        }],
        _ => Vec::new(),
    }
}

/// Of two fields none was given.
#[must_use]
pub fn neither(first: &str, second: &str) -> FieldError {
    FieldError {
        path: first.to_owned(),
        message: format!("is required, unless there is a `{second}`"),
    }
}

/// A body that a client gave.
#[derive(Debug)]
pub struct Given<T>(pub T);

impl<'a, T: Documented + DeserializeOwned> ApiExtractor<'a> for Given<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let schema = T::Schema::schema_ref();
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema,
            }],
            required: T::REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let visit = Visit::of(request)?;
        if visit.caller.get().is_none() {
            // Open to everybody, but whoever failed too often is not even listened to.
            let credentials = request
                .data::<Arc<Credentials>>()
                .ok_or_else(Refused::internal)?;
            credentials.may_try(visit.address)?;
            if request.uri().path().starts_with(SESSIONS) {
                credentials.may_log_in(visit.address)?;
            }
        }
        let bytes = body::read(visit).await?;
        if !bytes.is_empty() {
            check_media_type(request.headers())?;
        }
        Ok(Self(decode::<T>(&bytes)?))
    }
}

/// The message in a body. An empty body is `{}`.
///
/// # Errors
/// 400 naming every field that is wrong.
pub fn decode<T: Documented + DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let at_root = |message: String| {
        Refused::invalid(vec![FieldError {
            path: shape::ROOT.to_owned(),
            message,
        }])
    };
    let (mut value, twice) = if bytes.is_empty() {
        (Value::Object(serde_json::Map::new()), Vec::new())
    } else {
        keys::read(bytes).map_err(|error| at_root(format!("malformed JSON: {error}")))?
    };
    if !twice.is_empty() {
        let errors = twice.into_iter().take(TWICE_MAX).map(|path| FieldError {
            path,
            message: "is given more than once".to_owned(),
        });
        return Err(Refused::invalid(errors.collect()));
    }
    let mut errors = T::rules(&value);
    errors.extend(shape::check(
        &T::Schema::schema_ref(),
        document::registry(),
        T::STRICT,
        &mut value,
    ));
    if !errors.is_empty() {
        return Err(Refused::invalid(errors));
    }
    // The schema says all that the message asks for; what it left out would be named here, without its path.
    serde_json::from_value(value).map_err(|error| at_root(error.to_string()))
}

/// A missing type is forgiven; another one, or an encoding, is not.
fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Refused::new(
            Kind::MediaType,
            "bodies are taken as they are, without a content encoding",
        ));
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let given = String::from_utf8_lossy(given.as_bytes());
    let essence = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == JSON || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let shown: String = essence.chars().take(64).collect();
    Err(Refused::new(
        Kind::MediaType,
        format!("the body is to be {JSON}, not `{shown}`"),
    ))
}

/// A message that is shown to a client, with status 200 unless it is part of another response.
#[derive(Debug)]
pub struct Shown<T>(pub T);

impl<T: Documented> Payload for Shown<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::Schema::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Response::builder().content_type(JSON).body(body),
            Err(error) => {
                tracing::error!(%error, "a response could not be encoded");
                Refused::internal().into_response()
            }
        }
    }
}

impl<T: Documented + Serialize> ApiResponse for Shown<T> {
    fn meta() -> MetaResponses {
        as_asked::<T>()
    }

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }
}

/// An owner's message that is shown to a client as the owner wrote it, with status 200.
#[derive(Debug)]
pub struct Passed<T>(pub Unread<T>);

impl<T> IntoResponse for Passed<T> {
    fn into_response(self) -> Response {
        let body = self.0.into_json();
        Response::builder().content_type(JSON).body(body)
    }
}

impl<T: Documented> ApiResponse for Passed<T> {
    fn meta() -> MetaResponses {
        as_asked::<T>()
    }

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }
}

/// What the document says of a response that is nothing but a message.
fn as_asked<T: Documented>() -> MetaResponses {
    let content = vec![MetaMediaType {
        content_type: JSON,
        schema: T::Schema::schema_ref(),
    }];
    let response = MetaResponse {
        description: "As asked.",
        status: Some(200),
        status_range: None,
        content,
        headers: Vec::new(),
    };
    MetaResponses {
        responses: vec![response],
    }
}

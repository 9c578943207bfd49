//! An export: lines of JSON, a part at a time, so that it costs the gateway no more memory than one part. What cannot be
//! finished ends with a line that says so.

use bytes::Bytes;
use contract::Problem;
use contract::audit::{AuditExport, AuditExported, AuditFilter};
use futures::stream;
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde_json::json;

use crate::caller::Caller;
use crate::document::audit::AuditEvent;
use crate::owners::Owners;

/// How many entries a part has; the owner ends it early when they are large.
const PART: u32 = 500;
const NDJSON: &str = "application/x-ndjson";

/// The lines.
pub struct Export(Body);

/// What is still to be asked.
struct Rest {
    owners: Owners,
    caller: Caller,
    question: AuditExport,
}

impl Export {
    /// Asks for the first part, so that who may not export, or when the owner is away, is answered as everywhere.
    ///
    /// # Errors
    /// The owner's refusal.
    pub async fn begin(
        owners: &Owners,
        caller: Caller,
        filter: AuditFilter,
        after: i64,
    ) -> Result<Self, Problem> {
        let question = AuditExport {
            filter,
            after,
            limit: PART,
        };
        let part = owners.read(&caller, &question).await?;
        let rest = Rest {
            owners: owners.clone(),
            caller,
            question,
        };
        let address = bus::client::current();
        let lines = stream::unfold(Some((part, rest)), move |state| async move {
            let (part, mut rest) = state?;
            let (text, next) = lines(part);
            let Some(next) = next else {
                return Some((Ok::<_, std::io::Error>(text), None));
            };
            rest.question.after = next;
            let ask = rest.owners.read(&rest.caller, &rest.question);
            // The body is written after the request's own work has ended.
            let asked = match address {
                Some(address) => bus::client::on_behalf_of(address, ask).await,
                None => ask.await,
            };
            match asked {
                Ok(part) => Some((Ok(text), Some((part, rest)))),
                Err(problem) => {
                    tracing::warn!(%problem, next, "an export ends early");
                    Some((Ok(ended_early(text, &problem)), None))
                }
            }
        });
        Ok(Self(Body::from_bytes_stream(lines)))
    }
}

fn lines(part: AuditExported) -> (Bytes, Option<i64>) {
    let mut text = Vec::new();
    for item in &part.items {
        // An entry came as JSON and goes as JSON.
        if serde_json::to_writer(&mut text, item).is_ok() {
            text.push(b'\n');
        }
    }
    (text.into(), part.next)
}

fn ended_early(text: Bytes, problem: &Problem) -> Bytes {
    let line = json!({ "problem": { "kind": problem.kind, "detail": problem.detail } });
    [&text[..], line.to_string().as_bytes(), b"\n"]
        .concat()
        .into()
}

impl Payload for Export {
    const CONTENT_TYPE: &'static str = NDJSON;

    fn schema_ref() -> MetaSchemaRef {
        AuditEvent::schema_ref()
    }

    fn register(registry: &mut Registry) {
        AuditEvent::register(registry);
    }
}

impl IntoResponse for Export {
    fn into_response(self) -> Response {
        Response::builder().content_type(NDJSON).body(self.0)
    }
}

impl ApiResponse for Export {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The entries, one a line.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: NDJSON,
                    schema: Self::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }
}

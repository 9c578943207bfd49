//! Refusals, as the document shows them.

use contract::FieldError as FieldErrorMessage;
use poem_openapi::Object;

use crate::json::Documented;

/// One field that is wrong.
#[derive(Object)]
pub struct FieldError {
    /// Path of the field, such as `payload.message`; `body` for the body as a whole.
    path: String,
    /// What is wrong with it.
    message: String,
}

/// A refusal (RFC 9457).
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Problem {
    /// A URL on this server that explains this class of refusal, such as `/problems/invalid`.
    #[oai(rename = "type")]
    kind: String,
    /// The class in a few words.
    title: String,
    /// The status of the response.
    status: u16,
    /// What happened, in a sentence.
    detail: String,
    /// The path that was asked.
    instance: String,
    /// The trace in which it happened; it leads to the logs.
    trace_id: String,
    /// The fields that are wrong; empty when it is not about fields.
    errors: Vec<FieldError>,
}

impl Documented for FieldErrorMessage {
    type Schema = FieldError;
}

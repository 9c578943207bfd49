//! The form of a message: `{v, id, sentAt, org, body}`, and of an answer: `{"ok": …}` or `{"error": …}`.

use domain::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::problem::Problem;

/// Header that carries the grant of the user on whose behalf a request is made.
pub const GRANT_HEADER: &str = "Df-Grant";
/// Header that carries the client's address, from the gateway alone: elsewhere it is not believed.
pub const ADDRESS_HEADER: &str = "Df-Address";
/// Header of the W3C trace context.
pub const TRACE_HEADER: &str = "traceparent";

/// A message as it travels. Versions `v` and `v − 1` are accepted, so that replicas can be replaced one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// Version of the body's form.
    pub v: u32,
    /// Id of the message, for logs.
    pub id: Uuid,
    /// When it was sent, by the sender's clock.
    pub sent_at: Timestamp,
    /// The organisation it concerns. Informative: authority comes from the grant or the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgId>,
    /// The message itself.
    pub body: T,
}

impl<T> Envelope<T> {
    /// A message of this version, sent now.
    pub fn new(v: u32, org: Option<OrgId>, body: T) -> Self {
        Self {
            v,
            id: Uuid::now_v7(),
            sent_at: Timestamp::now(),
            org,
            body,
        }
    }
}

/// Whether a receiver that speaks version `mine` takes a message of version `theirs`.
#[must_use]
pub fn version_accepted(mine: u32, theirs: u32) -> bool {
    theirs == mine || theirs.checked_add(1) == Some(mine)
}

/// What comes back for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer<T> {
    /// The reply.
    Ok(T),
    /// The refusal.
    Error(Problem),
}

impl<T> From<Result<T, Problem>> for Answer<T> {
    fn from(result: Result<T, Problem>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(problem) => Self::Error(problem),
        }
    }
}

impl<T> From<Answer<T>> for Result<T, Problem> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(problem) => Err(problem),
        }
    }
}

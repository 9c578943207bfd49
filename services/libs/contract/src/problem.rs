//! A refusal as it travels between services. It knows nothing of HTTP; the gateway alone maps it.

use serde::{Deserialize, Serialize};

/// The class of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProblemKind {
    /// The request is malformed or a value is out of bounds; `errors` says where.
    Invalid,
    /// No credential, or one that is not accepted.
    Unauthenticated,
    /// The credential is good and does not reach this far.
    Forbidden,
    /// There is no such thing in the caller's organisation.
    NotFound,
    /// The thing is in a state that forbids this, or the idempotency key was used for another body.
    Conflict,
    /// More bytes than allowed.
    TooLarge,
    /// Too many requests.
    RateLimited,
    /// A part that is needed is away; nothing was changed. Try again.
    Unavailable,
    /// Whether it was done is not known. Repeat with the same idempotency key.
    OutcomeUnknown,
    /// Our fault.
    Internal,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Path of the field, such as `payload.message`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A refusal: its class, a sentence for a person, and the fields that are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{kind:?}: {detail}")]
pub struct Problem {
    /// The class.
    pub kind: ProblemKind,
    /// A sentence that a person understands, without secrets.
    pub detail: String,
    /// The fields that are wrong, if any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// When to try again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A refusal without fields.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_ms: None,
        }
    }

    /// One field is wrong.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError {
            path: path.into(),
            message: message.into(),
        };
        Self {
            errors: vec![error.clone()],
            ..Self::new(
                ProblemKind::Invalid,
                format!("{}: {}", error.path, error.message),
            )
        }
    }

    /// There is no such thing here. The same words whether it exists in another organisation or nowhere.
    #[must_use]
    pub fn not_found(noun: &str) -> Self {
        Self::new(
            ProblemKind::NotFound,
            format!("there is no such {noun} in this organisation"),
        )
    }

    /// The grant does not have the scope.
    #[must_use]
    pub fn missing_scope(scope: &str) -> Self {
        Self::new(
            ProblemKind::Forbidden,
            format!("this credential lacks the scope `{scope}`"),
        )
    }

    /// Whether the same question would be refused again: it is not for want of somebody to answer it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(
            self.kind,
            ProblemKind::Unavailable | ProblemKind::OutcomeUnknown | ProblemKind::RateLimited
        )
    }

    /// A part is away.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after_ms: Some(1_000),
            ..Self::new(ProblemKind::Unavailable, detail)
        }
    }
}

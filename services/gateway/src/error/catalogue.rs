//! The one catalogue of refusals: what `type` refers to, and what each means for whoever gets it.

use poem::http::StatusCode;

/// Where the catalogue is served; `type` of a problem is this path and the name.
pub const PATH: &str = "/problems";

/// The class of a refusal, as HTTP shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is not valid.
    Invalid,
    /// No credential, or one that is not accepted.
    Unauthenticated,
    /// The credential does not reach this far.
    Forbidden,
    /// There is no such thing for the caller.
    NotFound,
    /// The path is known, the method is not.
    MethodNotAllowed,
    /// The body did not come in time.
    Timeout,
    /// The thing's state forbids it.
    Conflict,
    /// More bytes than allowed.
    TooLarge,
    /// Not JSON.
    MediaType,
    /// Too many requests.
    RateLimited,
    /// Our fault.
    Internal,
    /// A part is away; nothing was changed.
    Unavailable,
    /// Whether it was done is not known.
    OutcomeUnknown,
}

impl Kind {
    /// All classes, by status.
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Conflict,
        Self::TooLarge,
        Self::MediaType,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    /// Its name in the catalogue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::MediaType => "unsupported-media-type",
            Self::RateLimited => "rate-limited",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome-unknown",
        }
    }

    /// The class of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What `type` says: a URL on this server that explains the class.
    #[must_use]
    pub fn reference(self) -> String {
        format!("{PATH}/{}", self.name())
    }

    /// Its status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the response says when to try again.
    #[must_use]
    pub fn retry(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Unavailable | Self::OutcomeUnknown
        )
    }

    /// Its title.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is not valid",
            Self::Unauthenticated => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Timeout => "The request took too long",
            Self::Conflict => "Conflict",
            Self::TooLarge => "Too large",
            Self::MediaType => "Unsupported media type",
            Self::RateLimited => "Too many requests",
            Self::Internal => "Internal error",
            Self::Unavailable => "Temporarily unavailable",
            Self::OutcomeUnknown => "Outcome unknown",
        }
    }

    /// What it means, and what to do.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Invalid => {
                "A value is missing, of a wrong type or out of bounds. `errors` names the path of each and what is \
                 wrong with it. Correct them; the same request fails again."
            }
            Self::Unauthenticated => {
                "No credential came with the request, or one that is not accepted: malformed, expired or revoked. \
                 Refresh the access token, or log in again."
            }
            Self::Forbidden => {
                "The credential is good and lacks a right that this needs; `detail` names it. Somebody who manages \
                 the organisation can give it."
            }
            Self::NotFound => {
                "There is no such thing in this organisation, or no such path. A thing of another organisation looks \
                 the same."
            }
            Self::MethodNotAllowed => {
                "The path exists and does not know this method. `Allow` names those it knows."
            }
            Self::Timeout => "The request's body did not arrive in time. Send it again.",
            Self::Conflict => {
                "The thing is in a state that forbids this, or the idempotency key was used for another body. Look at \
                 the thing before trying again."
            }
            Self::TooLarge => {
                "The body is larger than a megabyte, or a part of it than its own limit; `detail` says which."
            }
            Self::MediaType => {
                "Bodies are JSON: `Content-Type: application/json`, without a content encoding."
            }
            Self::RateLimited => {
                "Too many requests. `Retry-After` says in how many seconds to try again."
            }
            Self::Internal => "The fault is ours. `traceId` leads to it in the logs.",
            Self::Unavailable => {
                "A part that is needed does not answer. Nothing was changed. Try again after `Retry-After` seconds."
            }
            Self::OutcomeUnknown => {
                "The part that does it did not answer in time, so it may have been done or not. Repeat the request \
                 with the same `Idempotency-Key`: it is then done once."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_name(kind.name()), Some(kind));
            assert_eq!(
                Kind::ALL
                    .into_iter()
                    .filter(|other| other.name() == kind.name())
                    .count(),
                1
            );
        }
    }
}

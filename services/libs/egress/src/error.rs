//! Why a request got no answer. The texts are for whoever made the request: they name what was asked, and neither an address
//! nor a byte of what answered.

use crate::decision::Refusal;

/// An error of a request.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A part of the request cannot be used.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which: `url`, `headers`, `body`, `redirect`.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// It may not go there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The name is not known.
    #[error("`{0}` cannot be resolved")]
    Unresolved(String),
    /// Nobody there takes a connection.
    #[error("`{host}` cannot be reached at port {port}: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The system's word, such as "connection refused".
        reason: String,
    },
    /// TLS failed; mostly the certificate.
    #[error("`{host}`: no TLS: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// What answered is no HTTP, or stopped in the middle.
    #[error("`{host}`: no whole answer: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// It took too long, all together.
    #[error("no whole answer within {0} ms")]
    Timeout(u128),
    /// The answer is longer than the caller takes.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// It was sent on and on.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// So many requests of one tenant were made that this one's turn comes too late.
    #[error("too many requests at once: this one's turn would come after its time limit")]
    Pace,
    /// The client cannot be made; our fault.
    #[error("the HTTP client: {0}")]
    Setup(String),
}

impl EgressError {
    /// Whether the same request would end the same way again.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::Refused(_))
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

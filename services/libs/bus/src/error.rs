//! What can go wrong on the bus.

use contract::Problem;

/// An error of the bus. Its text has no secrets.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A configured value cannot be used.
    #[error("{0}")]
    Config(String),
    /// The client could not do it now (not connected, or closed).
    #[error("the bus is away: {0}")]
    Unavailable(String),
    /// JetStream refused.
    #[error("JetStream refused: {0}")]
    JetStream(String),
    /// A message could not be encoded or decoded.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        Self::unavailable(error.to_string())
    }
}

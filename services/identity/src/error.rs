//! What can go wrong in identity: what a caller may read of it, and what only the log says.

use bus::BusError;
use contract::{Problem, ProblemKind};
use database::DatabaseError;
use runtime::ConfigError;

/// An error of identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A refusal that the caller reads as it is.
    #[error("{0}")]
    Refused(#[from] Problem),
    /// A variable or a seed file.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The bus.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// The database.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// The admin endpoint.
    #[error("the admin endpoint: {0}")]
    Admin(#[from] std::io::Error),
    /// Our fault.
    #[error("{0}")]
    Internal(String),
}

impl From<sqlx::Error> for IdentityError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl IdentityError {
    /// Our fault, in the words of whatever failed.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Refused(problem) => problem,
            // Everything that identity does can be asked again, also when the commit's outcome is unknown.
            IdentityError::Database(error) if error.is_transient() => {
                tracing::warn!(%error, "a request was not served");
                Self::unavailable("identity's database is away")
            }
            IdentityError::Bus(error) => error.into(),
            error => {
                tracing::error!(%error, "a request failed");
                Self::new(
                    ProblemKind::Internal,
                    "identity made an error; its log says which",
                )
            }
        }
    }
}

//! What can go wrong in a service whose users bring keys of their own for what they ask, and what of it the asker is told: when
//! the database is lost during a commit, to repeat it with the same key. (Identity and metrics have enums of their own: what
//! they do can be asked again as it is.)

use bus::BusError;
use contract::{Problem, ProblemKind};
use database::DatabaseError;
use runtime::ConfigError;

/// An error of such a service.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Configuration.
    #[error("bad configuration: {0}")]
    Config(#[from] ConfigError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A refusal that the asker is to read.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// Something that cannot be: our fault.
    #[error("bug: {0}")]
    Bug(String),
    /// The admin endpoint cannot be bound.
    #[error("admin endpoint: {0}")]
    Admin(#[from] std::io::Error),
}

impl From<sqlx::Error> for OwnerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<OwnerError> for Problem {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Problem(problem) => problem,
            OwnerError::Database(DatabaseError::Unavailable(_) | DatabaseError::Collision) => {
                Self::unavailable("the database is away; try again")
            }
            OwnerError::Database(DatabaseError::Ambiguous(_)) => Self {
                retry_after_ms: Some(1_000),
                ..Self::new(
                    ProblemKind::OutcomeUnknown,
                    "the database was lost during the commit: outcome unknown, repeat with the same key",
                )
            },
            OwnerError::Bus(error) => error.into(),
            other => {
                tracing::error!(error = %other, "internal error");
                Self::new(ProblemKind::Internal, "internal error")
            }
        }
    }
}

//! What can go wrong in the scheduler, and what of it the asker is told.

use bus::BusError;
use contract::{Problem, ProblemKind};
use database::DatabaseError;
use runtime::ConfigError;

/// An error of the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
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

impl From<sqlx::Error> for SchedulerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<SchedulerError> for Problem {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Problem(problem) => problem,
            SchedulerError::Database(DatabaseError::Unavailable(_) | DatabaseError::Collision) => {
                Self::unavailable("the database is away; try again")
            }
            SchedulerError::Database(DatabaseError::Ambiguous(_)) => Self {
                retry_after_ms: Some(1_000),
                ..Self::new(
                    ProblemKind::OutcomeUnknown,
                    "the database was lost during the commit: outcome unknown, repeat with the same key",
                )
            },
            SchedulerError::Bus(error) => error.into(),
            other => {
                tracing::error!(error = %other, "internal error");
                Self::new(ProblemKind::Internal, "internal error")
            }
        }
    }
}

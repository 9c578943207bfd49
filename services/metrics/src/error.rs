//! What can go wrong in the metrics service, and what of it the asker is told.

use bus::BusError;
use contract::{Problem, ProblemKind};
use database::DatabaseError;
use runtime::ConfigError;

/// An error of the metrics service.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The asker is refused, in these words.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The admin endpoint.
    #[error("the admin endpoint: {0}")]
    Admin(#[from] std::io::Error),
    /// Two metrics of one name, or a name that Prometheus does not take.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl From<sqlx::Error> for MetricsError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<MetricsError> for Problem {
    fn from(error: MetricsError) -> Self {
        match error {
            MetricsError::Refused(problem) => problem,
            MetricsError::Bus(error) => error.into(),
            MetricsError::Database(error) if error.is_transient() => {
                Self::unavailable("the database of metrics is away")
            }
            error => {
                tracing::error!(%error, "a request failed");
                Self::new(ProblemKind::Internal, "metrics failed; its log says why")
            }
        }
    }
}

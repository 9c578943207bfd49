//! What PostgreSQL's errors mean. Services translate constraints by name; nobody else reads SQLSTATEs.

use std::borrow::Cow;

/// What a [`DatabaseError::Constraint`] names when there is no partition that takes a row.
pub const NO_PARTITION: &str = "no partition";

/// An error of the database, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Not reachable, shutting down, or no connection free in time. Nothing was changed; try again.
    #[error("the database is away: {0}")]
    Unavailable(String),
    /// The connection was lost while the commit ran: it may have happened.
    #[error("the commit's outcome is unknown: {0}")]
    Ambiguous(String),
    /// A constraint refused. The name tells which.
    #[error("constraint `{0}` refuses")]
    Constraint(String),
    /// A value that a column does not take.
    #[error("a value is refused: {0}")]
    Data(String),
    /// Deadlock or serialization failure: the transaction can be run again as it is.
    #[error("concurrent transactions collided")]
    Collision,
    /// Our fault: a statement that does not fit the schema, a type that does not decode.
    #[error("database bug: {0}")]
    Bug(String),
}

impl DatabaseError {
    /// Whether running the same again may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Ambiguous(_) | Self::Collision
        )
    }

    /// Whether there is no partition that takes the row: its owner can make one.
    #[must_use]
    pub fn is_partition_missing(&self) -> bool {
        self.constraint() == Some(NO_PARTITION)
    }

    /// The constraint that refused, if one did.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint(name) => Some(name),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or(Cow::Borrowed(""));
                match (code.get(..2).unwrap_or(""), code.as_ref()) {
                    ("40", _) => Self::Collision,
                    // Insufficient resources, operator intervention (shutdown, recovery), connection exceptions.
                    ("53" | "57" | "08", _) => Self::Unavailable(database.message().to_owned()),
                    // The server ended a session that was idle, or too long, in a transaction: a slow minute of ours or of
                    // the machine's. The transaction never was; nothing is wrong with what it said.
                    (_, "25P03" | "25P04") => Self::Unavailable(database.message().to_owned()),
                    // A connection from before a failover, to a server that now only follows: it wrote nothing.
                    (_, "25006") => Self::Unavailable(database.message().to_owned()),
                    // Another statement waited for a lock for too long.
                    (_, "55P03") => Self::Unavailable(database.message().to_owned()),
                    // A CHECK that has no name is the bounds of the partitions that there are.
                    (_, "23514") if database.constraint().is_none() => {
                        Self::Constraint(NO_PARTITION.to_owned())
                    }
                    ("23", _) => {
                        Self::Constraint(database.constraint().unwrap_or("unnamed").to_owned())
                    }
                    // Also what exceeds a limit of the server's (an index entry too large): the fault of one item must
                    // not be that of its whole batch.
                    ("22" | "54", _) => Self::Data(database.message().to_owned()),
                    // A row that row-level security refuses: somebody mixed organisations.
                    (_, "42501") => Self::Bug(format!("not permitted: {}", database.message())),
                    _ => Self::Bug(format!("{code}: {}", database.message())),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            _ => Self::Bug(error.to_string()),
        }
    }
}

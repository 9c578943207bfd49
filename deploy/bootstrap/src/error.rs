//! What can go wrong at bootstrap.

use std::path::PathBuf;

/// An error of the bootstrap job. Its text has no secrets.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key file holds something else.
    #[error("{path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Configuration.
    #[error(transparent)]
    Config(#[from] runtime::ConfigError),
    /// The database.
    #[error(transparent)]
    Database(#[from] ::database::DatabaseError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] ::bus::BusError),
}

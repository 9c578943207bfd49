//! What can go wrong in the worker. What goes wrong in a handler is a [`crate::Failure`].

use bus::BusError;
use runtime::ConfigError;

/// An error of the worker: why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Configuration.
    #[error("bad configuration: {0}")]
    Config(#[from] ConfigError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Something that cannot be: our fault.
    #[error("bug: {0}")]
    Bug(String),
    /// The admin endpoint cannot be bound.
    #[error("admin endpoint: {0}")]
    Admin(#[from] std::io::Error),
}

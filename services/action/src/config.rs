//! What the service reads from its environment.

use runtime::config::{DatabaseConfig, ServiceConfig};
use runtime::{ConfigError, Reader};

/// The port of the admin endpoint.
pub const ADMIN_PORT: u16 = 9102;

/// Configuration of the action service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs.
    pub service: ServiceConfig,
    /// The database.
    pub database: DatabaseConfig,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        Ok(Self {
            service: ServiceConfig::read(reader, ADMIN_PORT)?,
            database: DatabaseConfig::read(reader)?,
        })
    }
}

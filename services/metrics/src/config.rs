//! Configuration of the metrics service, read once.

use std::fmt;

use runtime::config::{DatabaseConfig, ServiceConfig};
use runtime::{ConfigError, Reader, keys};

use crate::timing::Timing;

/// Port of the admin endpoint when nothing else is said.
const ADMIN_PORT: u16 = 9105;

/// What the service is told.
#[derive(Clone)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs.
    pub service: ServiceConfig,
    /// Its connections to the database.
    pub database: DatabaseConfig,
    /// Seed of its user in the account APP.
    pub seed: String,
    /// Seed of its user in the account SYS.
    pub system_seed: String,
    /// How long it waits for what; only tests set other values than the default.
    pub timing: Timing,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let service = ServiceConfig::read(reader, ADMIN_PORT)?;
        let database = DatabaseConfig::read(reader)?;
        let seed = keys::read_seed(&service.keys, "nats.nk")?;
        let system_seed = keys::read_seed(&service.keys, "nats-sys.nk")?;
        Ok(Self {
            service,
            database,
            seed,
            system_seed,
            timing: Timing::default(),
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("service", &self.service)
            .field("database", &self.database)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

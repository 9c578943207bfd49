//! What the service reads from its environment.

use std::time::Duration;

use contract::audit::{RETENTION_DAYS, RETENTION_DAYS_RANGE};
use runtime::config::{DatabaseConfig, ServiceConfig};
use runtime::{ConfigError, Reader};

/// The port of the admin endpoint.
pub const ADMIN_PORT: u16 = 9102;

/// How often the ends of the audit's chains are signed.
pub const COUNTERSIGN_EVERY: Duration = Duration::from_secs(60);

/// Configuration of the action service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs.
    pub service: ServiceConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// `DASHFLEET_AUDIT_RETENTION_DAYS`: for how long identity keeps audit entries, and so this service the signatures.
    pub audit_retention_days: i32,
    /// How often the ends of the audit's chains are signed; no variable, tests have less patience.
    pub countersign_every: Duration,
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
            audit_retention_days: reader.within(
                "DASHFLEET_AUDIT_RETENTION_DAYS",
                RETENTION_DAYS,
                &RETENTION_DAYS_RANGE,
            )?,
            countersign_every: COUNTERSIGN_EVERY,
        })
    }
}

//! What the service reads from its environment.

use std::time::Duration;

use domain::job::POOL_DEFAULT;
use runtime::config::{DatabaseConfig, ServiceConfig};
use runtime::{ConfigError, Reader};

/// The port of the admin endpoint.
pub const ADMIN_PORT: u16 = 9103;
/// For how many days ended executions are kept when nobody says.
const RETENTION_DAYS: i32 = 30;
/// For how many they may be.
const RETENTION_DAYS_RANGE: std::ops::RangeInclusive<i32> = 2..=3_650;

/// Configuration of the scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs.
    pub service: ServiceConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// `DASHFLEET_SCHEDULER_POOLS`: the pools of workers that there are. The bootstrap job is told the same list.
    pub pools: Vec<String>,
    /// `DASHFLEET_EXECUTION_RETENTION_DAYS`: for how many days after its end an execution is kept, at least: it goes
    /// with all others that were made on the same day.
    pub retention_days: i32,
    /// Times; no variables, tests have less patience.
    pub timing: Timing,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long a worker's session holds after it was renewed.
    pub lease: Duration,
    /// How often expired sessions are looked for.
    pub reap_every: Duration,
    /// When nobody has looked for so long, something stood still: every session gets a whole lease more.
    pub stall: Duration,
    /// How often the dispatcher looks when nobody rings.
    pub look_every: Duration,
    /// An offer that was not answered for so long is made again.
    pub offer_again: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: domain::execution::LEASE,
            reap_every: Duration::from_secs(1),
            stall: Duration::from_secs(3),
            look_every: Duration::from_millis(500),
            offer_again: Duration::from_secs(2),
        }
    }
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
            pools: pools(reader)?,
            retention_days: reader.within(
                "DASHFLEET_EXECUTION_RETENTION_DAYS",
                RETENTION_DAYS,
                &RETENTION_DAYS_RANGE,
            )?,
            timing: Timing::default(),
        })
    }
}

fn pools(reader: &mut Reader) -> Result<Vec<String>, ConfigError> {
    let variable = "DASHFLEET_SCHEDULER_POOLS";
    let list: String = reader.or(variable, POOL_DEFAULT.to_owned())?;
    domain::job::pools(&list).map_err(|reason| ConfigError {
        variable: variable.into(),
        reason,
    })
}

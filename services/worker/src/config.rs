//! What the worker reads from its environment.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use domain::job::{POOL_DEFAULT, POOL_RULE, is_pool};
use egress::Rules;
use runtime::config::ServiceConfig;
use runtime::{ConfigError, Reader};

/// The port of the admin endpoint.
pub const ADMIN_PORT: u16 = 9104;
/// How many handlers run at once when nobody says.
pub const CONCURRENCY: usize = 5;
/// How many may.
pub const CONCURRENCY_RANGE: RangeInclusive<usize> = 1..=1_000;
/// How long handlers may go on when the worker is told to end.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Configuration of the worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs. Its `shutdown` is how long all may take after `drain`.
    pub service: ServiceConfig,
    /// `DASHFLEET_WORKER_POOL`
    pub pool: String,
    /// `DASHFLEET_WORKER_NAME`: for people; the host's name when absent.
    pub name: String,
    /// `DASHFLEET_WORKER_CONCURRENCY`
    pub concurrency: usize,
    /// `DASHFLEET_WORKER_DRAIN_MS`
    pub drain: Duration,
    /// `DASHFLEET_EGRESS_ALLOW` and `DASHFLEET_EGRESS_NEVER`
    pub egress: Rules,
    /// `DASHFLEET_EGRESS_CA`: a PEM file of authorities that are trusted besides the system's.
    pub egress_ca: Option<PathBuf>,
    /// `DASHFLEET_WORKER_WITNESS`: a file that is told of each handler's beginning and end; for tests.
    pub witness: Option<PathBuf>,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let service = ServiceConfig::read(reader, ADMIN_PORT)?;
        let pool = pool(reader)?;
        let name = name(reader, &pool)?;
        Ok(Self {
            service,
            pool,
            name,
            concurrency: reader.within(
                "DASHFLEET_WORKER_CONCURRENCY",
                CONCURRENCY,
                &CONCURRENCY_RANGE,
            )?,
            drain: reader.millis("DASHFLEET_WORKER_DRAIN_MS", DRAIN)?,
            egress: egress(reader)?,
            egress_ca: reader.path_optional("DASHFLEET_EGRESS_CA"),
            witness: reader.path_optional("DASHFLEET_WORKER_WITNESS"),
        })
    }

    /// How long the last finishes may take after the handlers. The other half of that time is for handlers that were asked
    /// to end, for the session's end, and for what is still said after it.
    #[must_use]
    pub fn closing(&self) -> Duration {
        self.service.shutdown / 2
    }

    /// How long the end may take before the connection is closed.
    #[must_use]
    pub fn end_max(&self) -> Duration {
        self.drain + self.service.shutdown
    }
}

fn pool(reader: &mut Reader) -> Result<String, ConfigError> {
    let variable = "DASHFLEET_WORKER_POOL";
    let pool: String = reader.or(variable, POOL_DEFAULT.to_owned())?;
    if is_pool(&pool) {
        return Ok(pool);
    }
    Err(ConfigError {
        variable: variable.into(),
        reason: format!("`{pool}` {POOL_RULE}"),
    })
}

fn name(reader: &mut Reader, pool: &str) -> Result<String, ConfigError> {
    let variable = "DASHFLEET_WORKER_NAME";
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| domain::text::check_name(host).is_ok());
    let name: String = reader.or(variable, host.unwrap_or(pool).to_owned())?;
    match domain::text::check_name(&name) {
        Ok(()) => Ok(name),
        Err(reason) => Err(ConfigError {
            variable: variable.into(),
            reason,
        }),
    }
}

fn egress(reader: &mut Reader) -> Result<Rules, ConfigError> {
    let (allow, never) = ("DASHFLEET_EGRESS_ALLOW", "DASHFLEET_EGRESS_NEVER");
    let granted: String = reader.or(allow, String::new())?;
    let closed: String = reader.or(never, String::new())?;
    Rules::read(&granted, &closed).map_err(|(about_never, reason)| ConfigError {
        variable: if about_never { never } else { allow }.into(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let given = [
            ("DASHFLEET_NATS_URLS", "nats://127.0.0.1:4222"),
            ("DASHFLEET_KEYS", "keys/worker"),
        ];
        let all = given.iter().chain(pairs);
        Config::read(&mut Reader::from_pairs(
            all.map(|(name, value)| (*name, (*value).to_owned())),
        ))
    }

    #[test]
    fn defaults_are_as_documented() {
        let config = read(&[]).expect("a configuration");
        assert_eq!((config.pool.as_str(), config.concurrency), ("default", 5));
        assert!(!config.name.is_empty(), "the host's name");
        assert_eq!(config.drain, Duration::from_secs(30));
        assert_eq!(config.egress, Rules::default());
        assert_eq!(config.service.admin_addr, "0.0.0.0:9104");
    }

    #[test]
    fn errors_name_the_variable() {
        for (variable, value) in [
            ("DASHFLEET_WORKER_POOL", "Two Words"),
            ("DASHFLEET_WORKER_NAME", "a\u{202e}b"),
            ("DASHFLEET_WORKER_CONCURRENCY", "0"),
            ("DASHFLEET_WORKER_CONCURRENCY", "1001"),
            ("DASHFLEET_WORKER_DRAIN_MS", "soon"),
            ("DASHFLEET_EGRESS_ALLOW", "intranet"),
            ("DASHFLEET_EGRESS_NEVER", "intranet:80"),
        ] {
            let refused = read(&[(variable, value)]).map_err(|error| error.variable);
            assert_eq!(refused.err().as_deref(), Some(variable), "{value}");
        }
    }
}

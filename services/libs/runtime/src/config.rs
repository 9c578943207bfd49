//! Configuration: the environment, read once, every variable with its default and its description.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A variable that is missing or cannot be used. The process exits 64 with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct ConfigError {
    /// The variable.
    pub variable: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Exit code of bad configuration (`EX_USAGE` of sysexits).
pub const EXIT_CONFIG: i32 = 64;

/// Reads variables and remembers what it read, for `--print-config`.
#[derive(Debug, Default)]
pub struct Reader {
    environment: BTreeMap<String, String>,
    /// Values of a file, each with its place there: they hold where the environment is silent.
    file: BTreeMap<String, (String, String)>,
    effective: Vec<(String, String)>,
}

impl Reader {
    /// A reader of this process' environment.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // the one place that reads the environment
    pub fn from_environment() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            environment,
            ..Self::default()
        }
    }

    /// A reader of these variables: for tests and for several services in one process.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let environment = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self {
            environment,
            ..Self::default()
        }
    }

    /// Values of a file, as `(variable, value, place)`: each holds where the environment is silent.
    pub fn file(&mut self, values: impl IntoIterator<Item = (&'static str, String, String)>) {
        for (variable, value, place) in values {
            self.file.insert(variable.to_owned(), (value, place));
        }
    }

    /// What the command line says of a variable: it beats the environment and the file.
    pub fn set(&mut self, name: &str, value: String) {
        self.environment.insert(name.to_owned(), value);
    }

    /// An error that names the place in the file where the value came from, when it came from there.
    #[must_use]
    pub fn placed(&self, error: ConfigError) -> ConfigError {
        match self.file.get(&error.variable) {
            Some((_, place)) if self.given(&error.variable).is_none() => ConfigError {
                variable: place.clone(),
                reason: error.reason,
            },
            _ => error,
        }
    }

    fn given(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let file = || self.file.get(name).map(|(value, _)| value.trim());
        self.given(name)
            .or_else(|| file().filter(|value| !value.is_empty()))
    }

    fn note(&mut self, name: &str, value: &str) {
        self.effective.push((name.to_owned(), value.to_owned()));
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing.
    pub fn required(&mut self, name: &str) -> Result<String, ConfigError> {
        let value = self
            .raw(name)
            .ok_or_else(|| ConfigError {
                variable: name.into(),
                reason: "is required".into(),
            })?
            .to_owned();
        self.note(name, &value);
        Ok(value)
    }

    /// A secret that must be there; never printed.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing.
    pub fn secret(&mut self, name: &str) -> Result<String, ConfigError> {
        let value = self
            .raw(name)
            .ok_or_else(|| ConfigError {
                variable: name.into(),
                reason: "is required".into(),
            })?
            .to_owned();
        self.note(name, "(secret)");
        Ok(value)
    }

    /// A secret that may be absent; never printed.
    pub fn secret_optional(&mut self, name: &str) -> Option<String> {
        let value = self.raw(name).map(ToOwned::to_owned);
        self.note(name, if value.is_some() { "(secret)" } else { "" });
        value
    }

    /// A text that may be absent.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        let value = self.raw(name).map(ToOwned::to_owned);
        self.note(name, value.as_deref().unwrap_or(""));
        value
    }

    /// A value within a range, or its default.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read or is outside.
    pub fn within<T>(
        &mut self,
        name: &str,
        default: T,
        range: &std::ops::RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + Display + PartialOrd,
        T::Err: Display,
    {
        let value = self.or(name, default)?;
        if range.contains(&value) {
            return Ok(value);
        }
        Err(ConfigError {
            variable: name.into(),
            reason: format!(
                "`{value}` is not within {} to {}",
                range.start(),
                range.end()
            ),
        })
    }

    /// A value with a default.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be parsed.
    pub fn or<T>(&mut self, name: &str, default: T) -> Result<T, ConfigError>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let value = match self.raw(name) {
            None => default,
            Some(text) => text.parse().map_err(|error: T::Err| ConfigError {
                variable: name.into(),
                reason: format!("`{text}`: {error}"),
            })?,
        };
        self.note(name, &value.to_string());
        Ok(value)
    }

    /// A duration in milliseconds, with a default; from 1 ms to a day.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not such a number.
    pub fn millis(&mut self, name: &str, default: Duration) -> Result<Duration, ConfigError> {
        let millis: u64 = self.or(name, u64::try_from(default.as_millis()).unwrap_or(u64::MAX))?;
        if !(1..=86_400_000).contains(&millis) {
            return Err(ConfigError {
                variable: name.into(),
                reason: format!("`{millis}` is not from 1 to 86400000 ms"),
            });
        }
        Ok(Duration::from_millis(millis))
    }

    /// A list separated by commas that must not be empty.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing or empty.
    pub fn list(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        let text = self.required(name)?;
        let items: Vec<_> = text
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect();
        if items.is_empty() {
            return Err(ConfigError {
                variable: name.into(),
                reason: "is an empty list".into(),
            });
        }
        Ok(items)
    }

    /// A path that may be absent.
    pub fn path_optional(&mut self, name: &str) -> Option<PathBuf> {
        self.optional(name).map(PathBuf::from)
    }

    /// Everything that was read, a line each, without secrets.
    #[must_use]
    pub fn print(&self) -> String {
        self.effective
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = writeln!(text, "{name}={value}");
                text
            })
    }
}

/// What every service reads: bus, keys, admin endpoint, logs.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// `DASHFLEET_NATS_URLS`
    pub nats_urls: Vec<String>,
    /// `DASHFLEET_NATS_CA`
    pub nats_ca: Option<PathBuf>,
    /// `DASHFLEET_KEYS`: this service's own folder of seeds.
    pub keys: PathBuf,
    /// `DASHFLEET_ADMIN_ADDR`
    pub admin_addr: String,
    /// `DASHFLEET_SHUTDOWN_MS`: how long what is under way may take at the end.
    pub shutdown: Duration,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl ServiceConfig {
    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader, admin_port: u16) -> Result<Self, ConfigError> {
        Ok(Self {
            nats_urls: reader.list("DASHFLEET_NATS_URLS")?,
            nats_ca: reader.path_optional("DASHFLEET_NATS_CA"),
            keys: reader.required("DASHFLEET_KEYS")?.into(),
            admin_addr: reader.or("DASHFLEET_ADMIN_ADDR", format!("0.0.0.0:{admin_port}"))?,
            shutdown: reader.millis("DASHFLEET_SHUTDOWN_MS", Duration::from_secs(10))?,
            telemetry: TelemetryConfig::read(reader)?,
        })
    }
}

/// The connections of a service that owns data.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `DASHFLEET_DATABASE_URL`: the tenant role.
    pub url: String,
    /// `DASHFLEET_DATABASE_SYSTEM_URL`: the role for work across organisations.
    pub system_url: String,
    /// `DASHFLEET_DATABASE_CONNECTIONS`, for each of both.
    pub connections: u32,
}

impl DatabaseConfig {
    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        Ok(Self {
            url: reader.secret("DASHFLEET_DATABASE_URL")?,
            system_url: reader.secret("DASHFLEET_DATABASE_SYSTEM_URL")?,
            connections: reader.or("DASHFLEET_DATABASE_CONNECTIONS", 8)?,
        })
    }
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// How a process speaks of itself.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// `DASHFLEET_LOG`: a filter such as `info,dashfleet_action=debug`.
    pub filter: String,
    /// `DASHFLEET_LOG_FORMAT`: `json` or `text`.
    pub json: bool,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: where traces go; nowhere when absent.
    pub otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let filter: String = reader.or("DASHFLEET_LOG", "info".to_owned())?;
        // Here already: whoever only looks at the configuration is to see it, too.
        tracing_subscriber::EnvFilter::try_new(&filter).map_err(|error| ConfigError {
            variable: "DASHFLEET_LOG".into(),
            reason: format!("`{filter}`: {error}"),
        })?;
        let format: String = reader.or("DASHFLEET_LOG_FORMAT", "json".to_owned())?;
        let json = match format.as_str() {
            "json" => true,
            "text" => false,
            other => {
                return Err(ConfigError {
                    variable: "DASHFLEET_LOG_FORMAT".into(),
                    reason: format!("`{other}` is neither json nor text"),
                });
            }
        };
        Ok(Self {
            filter,
            json,
            otlp_endpoint: reader.optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_variable() {
        let mut reader = Reader::from_pairs([
            ("DASHFLEET_SHUTDOWN_MS", "soon".to_owned()),
            ("DASHFLEET_EMPTY", " ".to_owned()),
        ]);
        let error = reader
            .millis("DASHFLEET_SHUTDOWN_MS", Duration::from_secs(1))
            .map_err(|error| error.variable);
        assert_eq!(error, Err("DASHFLEET_SHUTDOWN_MS".into()));
        assert_eq!(
            reader
                .required("DASHFLEET_EMPTY")
                .map_err(|error| error.reason),
            Err("is required".into())
        );
    }

    #[test]
    fn secrets_are_not_printed() -> Result<(), ConfigError> {
        let mut reader =
            Reader::from_pairs([("DASHFLEET_DATABASE_URL", "postgres://a:b@c/d".to_owned())]);
        reader.secret("DASHFLEET_DATABASE_URL")?;
        assert_eq!(reader.print(), "DASHFLEET_DATABASE_URL=(secret)\n");
        Ok(())
    }
}

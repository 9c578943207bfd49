//! The handlers that are always there: their names, and what each takes, within which bounds. The scheduler asks when a
//! configuration is given and the worker when it is used, and both are told the same.
//!
//! Rooms: [`http`] what the two take that ask a server, [`action`] what the one takes that tells a machine to do something,
//! [`examples`] configurations that can run and that cannot, for the tests of both sides.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::access::action_scope;

pub mod action;
pub mod examples;
pub mod http;

pub use action::ActionConfig;
pub use http::{Asked, CheckConfig, RequestConfig};

/// How long `builtin/sleep` sleeps, in milliseconds: at most a day.
pub const SLEEP_MS: RangeInclusive<u64> = 0..=24 * 3_600 * 1_000;

/// A handler that is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// Does nothing, and takes anything.
    Noop,
    /// Waits.
    Sleep,
    /// Asks a server, and is content with some statuses.
    HttpCheck,
    /// Asks a server, and keeps its answer.
    HttpRequest,
    /// Tells a machine to do something.
    Action,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Noop,
        Self::Sleep,
        Self::HttpCheck,
        Self::HttpRequest,
        Self::Action,
    ];

    /// The name, as a job says it: `builtin/noop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "builtin/noop",
            Self::Sleep => "builtin/sleep",
            Self::HttpCheck => "builtin/http-check",
            Self::HttpRequest => "builtin/http-request",
            Self::Action => "builtin/action",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|builtin| builtin.as_str() == name)
    }

    /// Whether there is nothing that it does not take.
    #[must_use]
    pub fn takes_anything(self) -> bool {
        self == Self::Noop
    }

    /// Whether somebody needs a right besides to have it run: then it acts with theirs.
    #[must_use]
    pub fn needs_scope(self) -> bool {
        !self.scoped_fields().is_empty()
    }

    /// What that scope is about: an execution that was asked for with something else than its job says keeps these as they were then.
    #[must_use]
    pub fn scoped_fields(self) -> &'static [&'static str] {
        match self {
            Self::Noop | Self::Sleep | Self::HttpCheck | Self::HttpRequest => &[],
            Self::Action => &["machineId", "kind"],
        }
    }

    /// The scope that somebody needs besides to have it run with this.
    #[must_use]
    pub fn scope(self, given: Given<'_>) -> Option<&'static str> {
        match self {
            Self::Noop | Self::Sleep | Self::HttpCheck | Self::HttpRequest => None,
            Self::Action => {
                let config = ActionConfig::read(given).ok()?;
                Some(action_scope(config.kind))
            }
        }
    }

    /// Whether it can run with this.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field: unknown, missing, of a wrong type, or out of bounds.
    pub fn check(self, given: Given<'_>) -> Result<(), ConfigError> {
        match self {
            Self::Noop => Ok(()),
            Self::Sleep => SleepConfig::read(given).map(|_| ()),
            Self::HttpCheck => CheckConfig::read(given).map(|_| ()),
            Self::HttpRequest => RequestConfig::read(given).map(|_| ()),
            Self::Action => ActionConfig::read(given).map(|_| ()),
        }
    }
}

/// A configuration that its handler does not take: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    /// Path of the field in the configuration, such as `headers.accept`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// What a handler is given: its job's configuration, and what an execution replaces of it. Fields of the first level are replaced as
/// a whole, as PostgreSQL's `||` does it; one that is `null` is the same as absent.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    config: &'a Map<String, Value>,
    replaced: Option<&'a Map<String, Value>>,
}

impl<'a> Given<'a> {
    /// A configuration.
    #[must_use]
    pub fn of(config: &'a Map<String, Value>) -> Self {
        Self {
            config,
            replaced: None,
        }
    }

    /// With these fields instead of its own.
    #[must_use]
    pub fn replacing(self, replaced: &'a Map<String, Value>) -> Self {
        Self {
            replaced: Some(replaced),
            ..self
        }
    }

    /// Refuses other fields than these: a misspelt one must not be overlooked.
    fn only(self, known: &[&str]) -> Result<(), ConfigError> {
        let maps = self.replaced.into_iter().chain([self.config]);
        let mut names = maps.flat_map(|map| map.keys());
        match names.find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(64).collect();
                let known = known.join(", ");
                let message = format!("is not a field of this handler; known are {known}");
                Err(ConfigError::new(shown, message))
            }
        }
    }

    /// A field that is there and not `null`.
    fn value(self, name: &str) -> Option<&'a Value> {
        self.replaced
            .and_then(|replaced| replaced.get(name))
            .or_else(|| self.config.get(name))
            .filter(|value| !value.is_null())
    }

    fn text(self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(ConfigError::new(name, "must be a string")),
        }
    }

    fn whole(self, name: &str, range: &RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                let message = format!("must be an integer from {least} to {most}");
                Err(ConfigError::new(name, message))
            }
        }
    }
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::new(name, "is required"))
}

/// What `builtin/sleep` takes: `{ms}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepConfig {
    /// How long it waits, in milliseconds.
    pub ms: u64,
}

impl SleepConfig {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(given: Given<'_>) -> Result<Self, ConfigError> {
        given.only(&["ms"])?;
        let ms = required("ms", given.whole("ms", &SLEEP_MS)?)?;
        Ok(Self { ms })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::examples::examples;
    use super::*;

    #[test]
    fn names_round_trip() {
        for builtin in Builtin::ALL {
            assert_eq!(Builtin::of(builtin.as_str()), Some(builtin));
        }
        assert_eq!(Builtin::of("builtin/nothing"), None);
    }

    #[test]
    fn what_could_never_run_is_refused_with_its_field() {
        for example in examples() {
            let checked = example.handler.check(Given::of(&example.config));
            let path = checked.as_ref().err().map(|error| error.path.as_str());
            assert_eq!(path, example.wrong, "{example:?}: {checked:?}");
        }
        for builtin in Builtin::ALL {
            let examples = examples();
            let mut of_it = examples.iter().filter(|known| known.handler == builtin);
            assert!(of_it.clone().any(|known| known.wrong.is_none()));
            let refuses = of_it.any(|known| known.wrong.is_some());
            assert_eq!(refuses, !builtin.takes_anything(), "{builtin:?}");
        }
    }

    #[test]
    fn what_is_replaced_is_seen_as_if_it_had_been_written_over() {
        let all = examples();
        let mut good = 0;
        for job in &all {
            for execution in all.iter().filter(|other| other.handler == job.handler) {
                let mut written = job.config.clone();
                written.extend(execution.config.clone());
                let written = job.handler.check(Given::of(&written));
                let seen = Given::of(&job.config).replacing(&execution.config);
                let seen = job.handler.check(seen);
                assert_eq!(seen.is_ok(), written.is_ok(), "{job:?} {execution:?}");
                good += usize::from(seen.is_ok());
            }
        }
        assert!(good > all.len());
    }

    #[test]
    fn null_takes_away_what_the_job_says() {
        let job = json!({ "ms": 5 });
        let (job, empty) = (job.as_object().expect("an object"), Map::new());
        let null = json!({ "ms": null });
        let null = null.as_object().expect("an object");
        let read = |replaced| SleepConfig::read(Given::of(job).replacing(replaced));
        assert_eq!(read(&empty), Ok(SleepConfig { ms: 5 }));
        let error = read(null).expect_err("nothing is left");
        assert_eq!(error.to_string(), "ms: is required");
    }
}

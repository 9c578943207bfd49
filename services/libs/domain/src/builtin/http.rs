//! What `builtin/http-check` and `builtin/http-request` take.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::{ConfigError, Given, required};
use crate::request::{HEADERS_MAX, HEADERS_MAX_BYTES, TIME_MAX_MS, check_header, check_url};

/// How long a request may be allowed to take, in milliseconds.
pub const TIMEOUT_MS: RangeInclusive<u64> = 100..=TIME_MAX_MS;
/// What is asked of a page that is only looked at.
pub const CHECK_METHODS: [&str; 2] = ["GET", "HEAD"];
/// What may be asked of any.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Statuses of HTTP.
pub const STATUSES: RangeInclusive<u16> = 100..=599;
/// The most statuses that may be expected.
pub const STATUSES_MAX: usize = 32;

/// A request that a handler is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Where to.
    pub url: &'a str,
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Its headers, as name and value.
    pub headers: Vec<(&'a str, &'a str)>,
    /// How long it may take, if the configuration says so.
    pub timeout: Option<Duration>,
}

impl<'a> Asked<'a> {
    fn read(
        given: Given<'a>,
        methods: &[&'static str],
        default: Option<&'static str>,
    ) -> Result<Self, ConfigError> {
        let url = required("url", given.text("url")?)?;
        check_url(url).map_err(|message| ConfigError::new("url", message))?;
        Ok(Self {
            url,
            method: method(given, methods, default)?,
            headers: headers(given)?,
            timeout: given
                .whole("timeoutMs", &TIMEOUT_MS)?
                .map(Duration::from_millis),
        })
    }
}

/// What `builtin/http-check` takes: `{url, method?, expectedStatus?, timeoutMs?, headers?}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig<'a> {
    /// What it asks; GET when nothing is said.
    pub asked: Asked<'a>,
    /// The statuses that are good; none for every 2xx.
    pub expected: Vec<u16>,
}

impl<'a> CheckConfig<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(given: Given<'a>) -> Result<Self, ConfigError> {
        given.only(&["url", "method", "expectedStatus", "timeoutMs", "headers"])?;
        Ok(Self {
            asked: Asked::read(given, &CHECK_METHODS, Some("GET"))?,
            expected: expected(given)?,
        })
    }
}

/// What `builtin/http-request` takes: `{url, method, headers?, body?, timeoutMs?}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestConfig<'a> {
    /// What it asks.
    pub asked: Asked<'a>,
    /// What it sends: a string as it is, anything else as JSON.
    pub body: Option<&'a Value>,
}

impl<'a> RequestConfig<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(given: Given<'a>) -> Result<Self, ConfigError> {
        given.only(&["url", "method", "headers", "body", "timeoutMs"])?;
        Ok(Self {
            asked: Asked::read(given, &METHODS, None)?,
            body: given.value("body"),
        })
    }
}

fn method(
    given: Given<'_>,
    methods: &[&'static str],
    default: Option<&'static str>,
) -> Result<&'static str, ConfigError> {
    let Some(value) = given.value("method") else {
        return required("method", default);
    };
    let text = value.as_str().unwrap_or_default();
    let known = methods
        .iter()
        .find(|method| method.eq_ignore_ascii_case(text));
    known.copied().ok_or_else(|| {
        let message = format!("must be one of {}", methods.join(", "));
        ConfigError::new("method", message)
    })
}

fn headers(given: Given<'_>) -> Result<Vec<(&str, &str)>, ConfigError> {
    let Some(value) = given.value("headers") else {
        return Ok(Vec::new());
    };
    let Value::Object(fields) = value else {
        return Err(ConfigError::new("headers", "must be an object of strings"));
    };
    if fields.len() > HEADERS_MAX {
        let message = format!("has {} fields; at most {HEADERS_MAX}", fields.len());
        return Err(ConfigError::new("headers", message));
    }
    let mut headers = Vec::with_capacity(fields.len());
    let mut bytes = 0;
    for (name, value) in fields {
        let wrong = |message: &str| {
            let shown: String = name.chars().take(64).collect();
            ConfigError::new(format!("headers.{shown}"), message)
        };
        let Value::String(value) = value else {
            return Err(wrong("must be a string"));
        };
        check_header(name, value).map_err(wrong)?;
        bytes += name.len() + value.len();
        headers.push((name.as_str(), value.as_str()));
    }
    if bytes > HEADERS_MAX_BYTES {
        let message = format!("has {bytes} bytes; at most {HEADERS_MAX_BYTES}");
        return Err(ConfigError::new("headers", message));
    }
    Ok(headers)
}

fn expected(given: Given<'_>) -> Result<Vec<u16>, ConfigError> {
    let field = "expectedStatus";
    let (least, most) = (*STATUSES.start(), *STATUSES.end());
    let status = |value: &Value| {
        let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
        status.filter(|status| STATUSES.contains(status))
    };
    match given.value(field) {
        None => Ok(Vec::new()),
        Some(Value::Array(all)) if (1..=STATUSES_MAX).contains(&all.len()) => {
            let mut expected = Vec::with_capacity(all.len());
            for (index, value) in all.iter().enumerate() {
                expected.push(status(value).ok_or_else(|| {
                    let message = format!("must be an integer from {least} to {most}");
                    ConfigError::new(format!("{field}[{index}]"), message)
                })?);
            }
            Ok(expected)
        }
        Some(one) => match status(one) {
            Some(status) => Ok(vec![status]),
            None => {
                let message = format!(
                    "must be an integer from {least} to {most}, or a list of 1 to {STATUSES_MAX} of them"
                );
                Err(ConfigError::new(field, message))
            }
        },
    }
}

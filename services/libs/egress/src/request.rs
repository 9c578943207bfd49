//! What is asked, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use domain::request::{HEADERS_OURS, TIME_MAX_MS};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use uuid::Uuid;

use crate::decision::Policy;
use crate::error::EgressError;

pub use domain::request::{HEADERS_MAX, HEADERS_MAX_BYTES};

/// The longest URL, in bytes.
pub const URL_MAX_BYTES: usize = 8 * 1024;
/// The longest body of a request, in bytes.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// How long a request may take at most, whatever the caller says.
pub const TIME_MAX: Duration = Duration::from_millis(TIME_MAX_MS);
/// The most redirects that are followed.
pub const REDIRECTS_MAX: usize = 5;

/// How much of an answer's body is taken. What is not taken is not read: the connection is closed. No compression is
/// offered, so bytes are counted as they come; whoever asks for one by a header gets it as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Status and headers are enough.
    Head,
    /// The first so many bytes.
    First(usize),
    /// All of it, and it is an error when that is more than so many bytes.
    All(usize),
}

/// A request that somebody aims.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose: the organisation, by which requests are paced.
    pub tenant: Uuid,
    /// The method; CONNECT is refused.
    pub method: Method,
    /// The URL: `http` or `https`, without a user.
    pub url: String,
    /// Its headers, as name and value.
    pub headers: Vec<(String, String)>,
    /// Its body; empty for none.
    pub body: Bytes,
    /// Whom it may reach.
    pub policy: Policy,
    /// How many redirects are followed, at most [`REDIRECTS_MAX`]. The next one is the answer when this is 0, else an error.
    pub redirects: usize,
    /// How long it may take with all that belongs to it; at most [`TIME_MAX`].
    pub limit: Duration,
    /// How much of the answer is taken.
    pub take: Take,
}

impl Request {
    /// A GET to anywhere that is public, of which everything up to a megabyte is taken, within half a minute.
    #[must_use]
    pub fn get(tenant: Uuid, url: impl Into<String>) -> Self {
        Self {
            tenant,
            method: Method::GET,
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            policy: Policy::anywhere(),
            redirects: REDIRECTS_MAX,
            limit: Duration::from_secs(30),
            take: Take::All(1024 * 1024),
        }
    }

    /// The port of its URL may be used: whoever made the job wrote that URL, and so named the port. A redirect's is not.
    #[must_use]
    pub fn naming_its_port(mut self) -> Self {
        let port = url::Url::parse(&self.url).ok().and_then(|url| url.port());
        if let Some(port) = port {
            self.policy = self.policy.with_port(port);
        }
        self
    }

    /// Its headers, checked.
    pub(crate) fn header_map(&self) -> Result<HeaderMap, EgressError> {
        let wrong = |reason: String| EgressError::invalid("headers", reason);
        if self.headers.len() > HEADERS_MAX {
            return Err(wrong(format!(
                "{} headers; at most {HEADERS_MAX}",
                self.headers.len()
            )));
        }
        let bytes: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > HEADERS_MAX_BYTES {
            return Err(wrong(format!("{bytes} bytes; at most {HEADERS_MAX_BYTES}")));
        }
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let shown: String = name.chars().take(64).collect();
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| wrong(format!("`{shown}` is not the name of a header")))?;
            if HEADERS_OURS.contains(&parsed.as_str()) {
                return Err(wrong(format!("`{shown}` cannot be set")));
            }
            let value = HeaderValue::from_str(value).map_err(|_| {
                wrong(format!(
                    "the value of `{shown}` has characters that a header cannot have"
                ))
            })?;
            map.append(parsed, value);
        }
        Ok(map)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case, in their order; bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// Its body, as far as it was taken.
    pub body: Bytes,
    /// Whether there was more of it.
    pub truncated: bool,
    /// Where it came from in the end.
    pub url: String,
}

pub(crate) fn headers_of(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

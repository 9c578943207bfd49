//! One step of a request's way: its URL, and what goes along to it.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{HeaderMap, Method, StatusCode};
use url::{Host, Url};

use crate::error::EgressError;
use crate::request::{Request, URL_MAX_BYTES};

/// What goes along to another origin. Credentials have many names (`Authorization`, `Cookie`, `X-Api-Key`), so what stays is
/// named instead: it says what the answer should be like and nothing else.
const HARMLESS: [&str; 4] = ["accept", "accept-language", "content-type", "user-agent"];

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// Whom a step goes to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The name in lower case without a final dot, or the address in its shortest form, without brackets.
    pub host: String,
    /// The address, when the URL says one instead of a name.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Hop {
    /// The first step, checked.
    pub fn first(request: &Request) -> Result<Self, EgressError> {
        if request.method == Method::CONNECT {
            return Err(EgressError::invalid(
                "method",
                "CONNECT is not for requests",
            ));
        }
        let mut headers = request.header_map()?;
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "dashfleet/",
                env!("CARGO_PKG_VERSION")
            )));
        let url = Url::parse(&request.url)
            .map_err(|error| EgressError::invalid("url", error.to_string()))?;
        Ok(Self {
            url: checked("url", url)?,
            method: request.method.clone(),
            headers,
            body: request.body.clone(),
        })
    }

    /// Where the answer sends it; `None` when that is the end.
    pub fn follow(
        &self,
        status: StatusCode,
        answered: &HeaderMap,
    ) -> Result<Option<Self>, EgressError> {
        let keeps = match status.as_u16() {
            301 | 302 => self.method != Method::POST,
            303 => matches!(self.method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => return Ok(None),
        };
        // Without a place to go it is an answer like any other.
        let Some(location) = answered.get(LOCATION) else {
            return Ok(None);
        };
        let wrong = |reason: String| EgressError::invalid("redirect", reason);
        let location = location
            .to_str()
            .map_err(|_| wrong("its Location is not text".into()))?;
        let url = self
            .url
            .join(location)
            .map_err(|error| wrong(format!("its Location: {error}")))?;
        let mut next = Self {
            url: checked("redirect", url)?,
            ..self.clone()
        };
        if !keeps {
            next.method = Method::GET;
            next.body = Bytes::new();
            next.headers.remove(CONTENT_TYPE);
        }
        if next.url.origin() != self.url.origin() {
            next.headers = self
                .headers
                .iter()
                .filter(|(name, _)| {
                    HARMLESS.contains(&name.as_str()) && next.headers.contains_key(*name)
                })
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
        }
        Ok(Some(next))
    }

    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Where the answer comes from, for whoever asked.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    pub fn place(&self) -> Result<Place, EgressError> {
        let wrong = |reason: &str| EgressError::invalid("url", reason);
        let address = match self.url.host().ok_or_else(|| wrong("names no host"))? {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.is_empty() {
                    return Err(wrong("names no host"));
                }
                return Ok(Place {
                    host: name.to_owned(),
                    address: None,
                    port: self.port()?,
                });
            }
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address).to_canonical(),
        };
        Ok(Place {
            host: address.to_string(),
            address: Some(address),
            port: self.port()?,
        })
    }

    /// Schemes that we do not speak have no port that is known; they are refused by the decision, with a port of 0.
    fn port(&self) -> Result<u16, EgressError> {
        match self.url.port_or_known_default() {
            Some(0) => Err(EgressError::invalid("url", "port 0 is none")),
            port => Ok(port.unwrap_or(0)),
        }
    }

    /// The message as it goes out: origin form, with the name in `Host`.
    pub fn message(&self) -> Result<hyper::Request<Full<Bytes>>, EgressError> {
        let wrong = |error: String| EgressError::invalid("url", error);
        let path = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let host = match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => format!("{}:{port}", host.trim_end_matches('.')),
            (Some(host), None) => host.trim_end_matches('.').to_owned(),
            (None, _) => return Err(wrong("names no host".into())),
        };
        let host = HeaderValue::from_str(&host).map_err(|error| wrong(error.to_string()))?;
        let mut message = hyper::Request::builder()
            .method(self.method.clone())
            .uri(path)
            .body(Full::new(self.body.clone()))
            .map_err(|error| wrong(error.to_string()))?;
        *message.headers_mut() = self.headers.clone();
        message.headers_mut().insert(HOST, host);
        message
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(message)
    }
}

/// A URL that can be used: not too long, and without a user, who would become a credential in logs.
fn checked(field: &'static str, mut url: Url) -> Result<Url, EgressError> {
    url.set_fragment(None);
    if url.as_str().len() > URL_MAX_BYTES {
        return Err(EgressError::invalid(
            field,
            format!("{} bytes; at most {URL_MAX_BYTES}", url.as_str().len()),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::invalid(
            field,
            "must not carry a user or a password; use a header",
        ));
    }
    Ok(url)
}

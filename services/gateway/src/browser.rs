//! Browsers, which act for whoever last gave them a page: what they are told of this server's answers ([`headers`]), which
//! other origins may read them ([`origin`]), and how a session lives in their cookies ([`session`]).

pub mod headers;
pub mod origin;
pub mod session;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

use self::origin::Origin;

/// What a page of another origin may send, besides what it always may.
const ALLOWED_HEADERS: &str =
    "authorization, content-type, idempotency-key, last-event-id, traceparent, x-csrf-token";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What it may read, besides what it always may.
const EXPOSED_HEADERS: &str =
    "etag, location, ratelimit-limit, ratelimit-remaining, ratelimit-reset, retry-after";
/// How long a browser need not ask again, in seconds.
const PREFLIGHT_FRESH: &str = "600";
/// The paths that other origins may ever read: the API, and not what agents use.
const SHARED: &str = "/api/v1/";
const SITE: &str = "sec-fetch-site";

/// What browsers may do here.
#[derive(Clone, Debug, Default)]
pub struct Browsers {
    /// `DASHFLEET_PUBLIC_URL`'s.
    own: Option<Origin>,
    /// `DASHFLEET_CORS_ORIGINS`: whose pages may use the API.
    open_to: Vec<Origin>,
}

impl Browsers {
    /// By the configuration.
    #[must_use]
    pub fn new(own: Option<Origin>, open_to: Vec<Origin>) -> Self {
        Self { own, open_to }
    }

    /// Whether the client speaks TLS: a trusted proxy's word, else what the public URL says.
    #[must_use]
    pub fn https(&self, forwarded: Option<bool>) -> bool {
        forwarded.unwrap_or_else(|| self.own.as_ref().is_some_and(Origin::is_https))
    }

    /// Whether the configuration says that there is no TLS.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.is_https())
    }

    fn is_open_to(&self, origin: &HeaderValue) -> bool {
        self.open_to
            .iter()
            .any(|open| origin.as_bytes() == open.as_str().as_bytes())
    }

    /// The answer to a browser that asks whether a page of another origin may do something; nothing where the answer is
    /// the same as for everything that is not there.
    #[must_use]
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let asks = request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && request.uri().path().starts_with(SHARED);
        let origin = headers.get(header::ORIGIN)?;
        if !asks || !self.is_open_to(origin) {
            return None;
        }
        let answer = Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS)
            .header(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)
            .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_FRESH);
        Some(answer.finish())
    }

    /// Lets a page of an origin that may read an answer read it, also when it refuses.
    pub fn share(&self, path: &str, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.open_to.is_empty() || !path.starts_with(SHARED) {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin.filter(|origin| self.is_open_to(origin)) else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }

    /// Whether a request comes from a page of ours, or from no page at all. Browsers say where from in `Sec-Fetch-Site`
    /// (Fetch Metadata), older ones in `Origin`; what is no browser says neither.
    #[must_use]
    pub fn is_from_here(&self, request: &Request) -> bool {
        let headers = request.headers();
        let site = headers.get(SITE).map(HeaderValue::as_bytes);
        if matches!(site, Some(b"same-origin" | b"none")) {
            return true;
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if self.is_open_to(origin) => true,
            Some(origin) => site.is_none() && self.is_own(origin, host(request)),
            None => site.is_none(),
        }
    }

    fn is_own(&self, origin: &HeaderValue, host: &str) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let named = self.own.as_ref().map(Origin::as_str) == Some(origin);
        // A proxy may have taken TLS away, so only the host can be compared.
        named
            || origin
                .split_once("://")
                .is_some_and(|(_, named)| !host.is_empty() && named.eq_ignore_ascii_case(host))
    }
}

/// The host that a request names.
#[must_use]
pub fn host(request: &Request) -> &str {
    request
        .header(header::HOST)
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request {
        let mut builder = Request::builder().method(Method::POST);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.finish()
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let own = Origin::of_url("https://fleet.example.org/base").expect("a URL");
        let dash = "https://dash.example.org".parse().expect("an origin");
        let browsers = Browsers::new(Some(own), vec![dash]);
        for (headers, here) in [
            (vec![], true),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (
                vec![
                    ("sec-fetch-site", "same-site"),
                    ("origin", "https://dash.example.org"),
                ],
                true,
            ),
            (
                vec![
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://fleet.example.org"),
                ],
                false,
            ),
            (vec![("origin", "https://fleet.example.org")], true),
            (vec![("origin", "https://evil.example.org")], false),
            (
                vec![("origin", "https://inner:8080"), ("host", "inner:8080")],
                true,
            ),
            (
                vec![("origin", "https://inner:8081"), ("host", "inner:8080")],
                false,
            ),
            (vec![("origin", "null"), ("host", "null")], false),
            (vec![("origin", "https://dash.example.org.evil")], false),
        ] {
            assert_eq!(
                browsers.is_from_here(&request(&headers)),
                here,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_trusted_proxy_says_whether_there_is_tls_and_else_the_public_url_does() {
        let of = |url: &str| Browsers::new(Origin::of_url(url).ok(), Vec::new());
        let (tls, plain, silent) = (of("https://a"), of("http://a"), Browsers::default());
        for (browsers, forwarded, https) in [
            (&tls, None, true),
            (&tls, Some(false), false),
            (&plain, None, false),
            (&plain, Some(true), true),
            (&silent, None, false),
            (&silent, Some(true), true),
        ] {
            assert_eq!(browsers.https(forwarded), https);
        }
    }
}

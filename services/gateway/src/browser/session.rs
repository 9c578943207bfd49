//! A session in a browser's cookies, where no script can read it, after OWASP's Session Management and Cross-Site Request
//! Forgery Prevention cheat sheets.
//!
//! Three cookies: the access token, sent everywhere; the refresh token, sent to the refresh alone; and what a page must say
//! in `X-CSRF-Token` with everything but a question, which scripts may read. The first two carry a number of the session,
//! and what a page must say is that number's hash: bound to the session, kept nowhere, and the same after a refresh, so that
//! other tabs go on. Besides, the request must come from a page of ours ([`super::Browsers::is_from_here`]).
//!
//! Under TLS names begin with `__Host-` (`__Secure-` where a path is set), so that no neighbour's page can set them. Without
//! TLS there are plain names, and only where `DASHFLEET_PUBLIC_URL` says `http://`, or on this machine itself: whoever listens
//! on a network would have the session.

use std::net::IpAddr;

use contract::FieldError;
use contract::identity::Tokens;
use poem::Request;
use poem::http::{HeaderMap, HeaderValue, Method, header};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::host;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::visit::Visit;

/// The header that proves that a page of ours asks.
pub const CSRF_HEADER: &str = "X-CSRF-Token";
/// The only path that the refresh token is sent to.
const REFRESH_PATH: &str = "/api/v1/auth/refresh";
/// How long a refresh token lives at most, in seconds. Identity decides; this is when the browser may forget it.
const REFRESH_SECONDS: u32 = 7 * 24 * 60 * 60;
/// What access and refresh tokens begin with. A key is never taken from a cookie.
const ACCESS: &str = "dfa_";
const REFRESH: &str = "dfr_";

/// What the cookies are called.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// The access token's.
    pub session: &'static str,
    /// The refresh token's.
    pub refresh: &'static str,
    /// The one that scripts may read.
    pub csrf: &'static str,
    secure: &'static str,
}

/// Under TLS.
const SECURE: Names = Names {
    session: "__Host-dashfleet-session",
    refresh: "__Secure-dashfleet-refresh",
    csrf: "__Host-dashfleet-csrf",
    secure: "; Secure",
};
/// Without.
const PLAIN: Names = Names {
    session: "dashfleet-session",
    refresh: "dashfleet-refresh",
    csrf: "dashfleet-csrf",
    secure: "",
};

/// The cookies that an answer sets.
pub type Cookies = [HeaderValue; 3];

/// A session in cookies, with its number.
#[derive(Clone, Debug)]
pub struct Session {
    names: &'static Names,
    number: String,
}

impl Session {
    /// A new one, for a login that asks for it.
    ///
    /// # Errors
    /// 400 where there is no TLS and none was said to be needed; 403 for a page of another site, which could otherwise make
    /// somebody work in a stranger's account.
    pub fn offered(request: &Request) -> Result<Self, Refused> {
        let visit = Visit::of(request)?;
        let names = names(visit, request).ok_or_else(|| {
            let message = "`COOKIE` needs TLS: set DASHFLEET_PUBLIC_URL of the gateway to the https:// address, or have a \
                           trusted proxy say `X-Forwarded-Proto: https`";
            Refused::invalid(vec![FieldError {
                path: "session".to_owned(),
                message: message.to_owned(),
            }])
        })?;
        from_here(visit, request)?;
        let number = Uuid::new_v4().simple().to_string();
        Ok(Self { names, number })
    }

    /// What a page says in [`CSRF_HEADER`].
    #[must_use]
    pub fn csrf(&self) -> String {
        csrf(&self.number)
    }

    /// The cookies with these tokens.
    ///
    /// # Errors
    /// Our fault: tokens are plain words.
    pub fn cookies(&self, tokens: &Tokens) -> Result<Cookies, Refused> {
        let number = &self.number;
        self.names.set([
            (
                &format!("{}.{number}", tokens.access_token),
                tokens.expires_in,
            ),
            (
                &format!("{}.{number}", tokens.refresh_token),
                REFRESH_SECONDS,
            ),
            (&self.csrf(), REFRESH_SECONDS),
        ])
    }

    /// The same cookies, empty and over.
    ///
    /// # Errors
    /// Never; as [`Session::cookies`].
    pub fn over(&self) -> Result<Cookies, Refused> {
        self.names.set([("", 0), ("", 0), ("", 0)])
    }
}

impl Names {
    fn set(&self, [session, refresh, csrf]: [(&str, u32); 3]) -> Result<Cookies, Refused> {
        let cookie = |name: &str, (value, seconds): (&str, u32), path: &str, hidden: &str| {
            let secure = self.secure;
            let text = format!(
                "{name}={value}; Path={path}; Max-Age={seconds}; SameSite=Strict{secure}{hidden}"
            );
            let mut value = HeaderValue::from_str(&text).map_err(|_| Refused::internal())?;
            value.set_sensitive(true);
            Ok::<_, Refused>(value)
        };
        Ok([
            cookie(self.session, session, "/", "; HttpOnly")?,
            cookie(self.refresh, refresh, REFRESH_PATH, "; HttpOnly")?,
            cookie(self.csrf, csrf, "/", "")?,
        ])
    }
}

/// An access token in a request's cookie.
#[derive(Debug)]
pub struct InCookie<'a> {
    /// The token.
    pub token: &'a str,
    /// Whether a page of ours asks with it. Else a 403: it would change something.
    pub meant: Result<(), Refused>,
}

/// The access token in a request's cookie.
///
/// # Errors
/// 401 for a cookie that is none of ours.
pub fn access_token(request: &Request) -> Result<Option<InCookie<'_>>, Refused> {
    let visit = Visit::of(request)?;
    let Some(names) = names(visit, request) else {
        return Ok(None);
    };
    let Some(value) = cookie(request.headers(), names.session) else {
        return Ok(None);
    };
    let (token, number) = read(value, ACCESS)?;
    let meant = match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => is_meant(visit, request, number),
    };
    Ok(Some(InCookie { token, meant }))
}

/// The refresh token in a request's cookie, and the session that it goes on with.
///
/// # Errors
/// 401 for a cookie that is none of ours; 403 when no page of ours asks, for a refresh is always a change.
pub fn refresh_token(request: &Request) -> Result<Option<(&str, Session)>, Refused> {
    let visit = Visit::of(request)?;
    let Some(names) = names(visit, request) else {
        return Ok(None);
    };
    let Some(value) = cookie(request.headers(), names.refresh) else {
        return Ok(None);
    };
    let (token, number) = read(value, REFRESH)?;
    is_meant(visit, request, number)?;
    let number = number.to_owned();
    Ok(Some((token, Session { names, number })))
}

/// The session in cookies by which a request was let in ([`access_token`]): for its end, and for what gives new tokens.
pub fn carried(request: &Request) -> Option<Session> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        return None;
    }
    let names = names(Visit::of(request).ok()?, request)?;
    let (_, number) = read(cookie(request.headers(), names.session)?, ACCESS).ok()?;
    let number = number.to_owned();
    Some(Session { names, number })
}

/// Which cookies hold for a request, if any.
fn names(visit: &Visit, request: &Request) -> Option<&'static Names> {
    if visit.https {
        return Some(&SECURE);
    }
    let here = visit.address.is_loopback() && is_loopback(host(request));
    (visit.browsers.is_plain() || here).then_some(&PLAIN)
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The value of a cookie that is there once: of two with one name one was set by somebody else.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter_map(|(named, value)| (named == name).then_some(value));
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Some(value),
        _ => None,
    }
}

fn read<'a>(value: &'a str, prefix: &str) -> Result<(&'a str, &'a str), Refused> {
    value
        .rsplit_once('.')
        .filter(|(token, number)| token.starts_with(prefix) && !number.is_empty())
        .ok_or_else(|| {
            Refused::new(
                Kind::Unauthenticated,
                "the session's cookie is none of ours; log in again",
            )
        })
}

fn is_meant(visit: &Visit, request: &Request, number: &str) -> Result<(), Refused> {
    from_here(visit, request)?;
    let given = request.header(CSRF_HEADER).unwrap_or_default();
    if is_same(given, &csrf(number)) {
        return Ok(());
    }
    let detail = format!(
        "with a session in cookies this needs the header `{CSRF_HEADER}`, with `csrfToken` of the login"
    );
    Err(Refused::new(Kind::Forbidden, detail))
}

fn from_here(visit: &Visit, request: &Request) -> Result<(), Refused> {
    if visit.browsers.is_from_here(request) {
        return Ok(());
    }
    let detail = "a page of another site asks, and this session's cookies are not for it";
    Err(Refused::new(Kind::Forbidden, detail))
}

/// What belongs to a session's number.
fn csrf(number: &str) -> String {
    let hash = Sha256::new()
        .chain_update(b"dashfleet/csrf/1\0")
        .chain_update(number)
        .finalize();
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether two texts are the same, without saying by its time how far they are.
fn is_same(one: &str, other: &str) -> bool {
    let differing = one
        .bytes()
        .zip(other.bytes())
        .fold(0, |differing, (one, other)| differing | (one ^ other));
    one.len() == other.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_is_there_twice_is_nobodys() {
        let jar = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            cookie(&headers, "a").map(ToOwned::to_owned)
        };
        assert_eq!(jar(&["b=1; a=2; aa=3"]).as_deref(), Some("2"));
        assert_eq!(jar(&["b=1", "a=2"]).as_deref(), Some("2"));
        for none in [&["a=1; a=2"][..], &["a=1", "a=1"], &["b=a=1"], &["a="], &[]] {
            assert_eq!(jar(none), None, "{none:?}");
        }
    }

    #[test]
    fn hosts_of_this_machine_are_known() {
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "fleet.example.org",
            "localhost.example.org",
            "10.0.0.1:80",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn what_a_page_says_belongs_to_one_session() {
        assert_ne!(csrf("a"), csrf("b"));
        assert_eq!(csrf("a").len(), 32);
        assert!(is_same("ab", "ab") && !is_same("ab", "ac"));
        assert!(!is_same("", "a") && !is_same("a", "ab"));
    }
}

//! What an HTTP request that a tenant aims may be like, whoever it goes to: what is given is checked by this, and what goes out
//! is held to it.

use url::Url;

/// The longest URL that may be given, also as it is sent (`ü` is then `%C3%BC`), in bytes.
pub const URL_MAX_BYTES: usize = 4_096;
/// How long a request may take at most with all that belongs to it, in milliseconds.
pub const TIME_MAX_MS: u64 = 300_000;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// All of them together, names and values, in bytes.
pub const HEADERS_MAX_BYTES: usize = 16 * 1024;
/// Headers that say how the message is framed or by which way it goes, in lower case. They are ours.
pub const HEADERS_OURS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a request can go to this URL, as far as it says so itself: where the name leads is another matter.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(text: &str) -> Result<(), String> {
    let too_long = |bytes: usize| Err(format!("has {bytes} bytes; at most {URL_MAX_BYTES}"));
    if text.len() > URL_MAX_BYTES {
        return too_long(text.len());
    }
    // The parser would look for a host behind any number of slashes, and leave out blanks.
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split(['/', '\\', '?', '#']).next());
    if host.is_none_or(str::is_empty) || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must be a URL that begins with http:// or https:// and names a host".into());
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user or a password; use a header".into());
    }
    let is_no_name = |host: &str| host.trim_end_matches('.').is_empty();
    if url.host_str().is_none_or(is_no_name) {
        return Err("must name a host".into());
    }
    if url.port() == Some(0) {
        return Err("must not name port 0".into());
    }
    if url.as_str().len() > URL_MAX_BYTES {
        return too_long(url.as_str().len());
    }
    Ok(())
}

/// Whether a request can have this header.
///
/// # Errors
/// What is wrong with it.
pub fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_of_name) {
        return Err("is not the name of a header");
    }
    if HEADERS_OURS
        .iter()
        .any(|ours| name.eq_ignore_ascii_case(ours))
    {
        return Err("cannot be set");
    }
    if !value
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
    {
        return Err("has characters that a header cannot have");
    }
    Ok(())
}

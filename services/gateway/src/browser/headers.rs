//! What every answer tells browsers, after OWASP's HTTP Headers and REST Security cheat sheets. Pages set a policy of their
//! own ([`crate::inbound::pages`]); whatever else is answered is no page and may be none.

use poem::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The policy of what is no page: it loads nothing and stands in no frame.
pub const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// What pages of this server never need.
const PERMISSIONS: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), usb=()";
/// For a year. Not for names below this one: they are not ours to speak for.
const TRANSPORT: &str = "max-age=31536000";

/// Where the answer has no word of its own.
const DEFAULTS: [(HeaderName, &str); 8] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, API_POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Completes an answer's headers.
pub fn complete(headers: &mut HeaderMap, https: bool) {
    for (name, value) in DEFAULTS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    // Without TLS a browser must not believe it (RFC 6797, 7.2), so it is not said.
    if https {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(TRANSPORT),
        );
    }
}

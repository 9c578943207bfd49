//! How a session begins and goes on, as the document shows it.

use poem_openapi::{Enum, Object};
use uuid::Uuid;

use crate::inbound::auth::session as body;
use crate::json::Documented;

/// Where a session's tokens are kept; `TOKEN` when it is not said.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SessionKind {
    /// By the client: they come in the answer.
    Token,
    /// By the browser, in cookies that no script can read.
    Cookie,
}

/// An address and its password.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Login {
    /// The person's address.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: String,
    /// The person's password.
    #[oai(validator(min_length = 1, max_length = 1024))]
    password: String,
    /// Where to; the organisation that was joined first when absent.
    organization_id: Option<Uuid>,
    session: Option<SessionKind>,
}

/// A refresh token, unless it is in a cookie.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Refresh {
    /// `dfr_…`, as the last login or refresh gave it. It works once. Absent when the session is in cookies.
    #[oai(validator(min_length = 1, max_length = 512))]
    refresh_token: Option<String>,
}

/// A session whose tokens are in cookies.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct CookieSession {
    /// For the header `X-CSRF-Token` of every request that changes something. It stays the same as long as the session
    /// lasts, and is in the cookie `__Host-dashfleet-csrf` too.
    csrf_token: String,
    /// Seconds until the access token expires: refresh before.
    expires_in: u32,
}

impl Documented for body::SessionKind {
    type Schema = SessionKind;
}

impl Documented for body::Login {
    type Schema = Login;
}

impl Documented for body::Refresh {
    type Schema = Refresh;
}

impl Documented for body::CookieSession {
    type Schema = CookieSession;
}

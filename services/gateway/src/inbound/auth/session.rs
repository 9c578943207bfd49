//! How a session begins and goes on: with tokens in the answer, or in the browser's cookies.

use std::fmt;

use contract::FieldError;
use contract::identity::Tokens;
use domain::OrgId;
use poem::Request;
use poem_openapi::ApiResponse;
use serde::{Deserialize, Serialize};

use crate::browser::session::{self, Session};
use crate::error::Refused;
use crate::json::Shown;
use crate::visit::Visit;

/// Who keeps the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SessionKind {
    /// The client.
    #[default]
    Token,
    /// The browser.
    Cookie,
}

/// Who wants to log in, and how.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The person's address.
    pub email: String,
    /// The person's password.
    pub password: String,
    /// Where to; the organisation that was joined first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrgId>,
    /// Who keeps the tokens.
    #[serde(default)]
    pub session: SessionKind,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// A refresh token, unless it is in a cookie.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// `dfr_…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").finish_non_exhaustive()
    }
}

/// What a page learns of a session in cookies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieSession {
    /// What it says in `X-CSRF-Token`.
    pub csrf_token: String,
    /// Seconds until the access token expires.
    pub expires_in: u32,
}

/// A session that began, or goes on.
#[derive(ApiResponse)]
pub enum SignedIn {
    /// With its tokens, for who keeps them.
    #[oai(status = 200)]
    Tokens(Shown<Tokens>),
    /// The tokens are in the cookies that come with this.
    #[oai(status = 201)]
    Cookies(Shown<CookieSession>),
}

impl SignedIn {
    /// The answer with these tokens, in cookies if the session has any.
    ///
    /// # Errors
    /// Our fault, when tokens are not what they always are.
    pub fn with(
        tokens: Tokens,
        session: Option<&Session>,
        request: &Request,
    ) -> Result<Self, Refused> {
        let Some(session) = session else {
            return Ok(Self::Tokens(Shown(tokens)));
        };
        let cookies = session.cookies(&tokens)?;
        Visit::of(request)?.cookies.get_or_init(|| cookies);
        Ok(Self::Cookies(Shown(CookieSession {
            csrf_token: session.csrf(),
            expires_in: tokens.expires_in,
        })))
    }
}

impl Refresh {
    /// The refresh token of a request, and the session when it is in cookies.
    ///
    /// # Errors
    /// 400 when there is none; 401 and 403 as for every session in cookies.
    pub fn token(self, request: &Request) -> Result<(String, Option<Session>), Refused> {
        if let Some(token) = self.refresh_token {
            return Ok((token, None));
        }
        match session::refresh_token(request)? {
            Some((token, session)) => Ok((token.to_owned(), Some(session))),
            None => Err(Refused::invalid(vec![FieldError {
                path: "refreshToken".to_owned(),
                message: "is required, unless the session is in cookies".to_owned(),
            }])),
        }
    }
}

/// Takes a session out of the browser's cookies.
///
/// # Errors
/// Our fault: the request did not come through the outermost endpoint.
pub fn forget(session: &Session, request: &Request) -> Result<(), Refused> {
    let over = session.over()?;
    Visit::of(request)?.cookies.get_or_init(|| over);
    Ok(())
}

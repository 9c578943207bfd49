//! Logging in and out.

use std::sync::Arc;

use contract::identity::{Login, Logout, Me, Principal, Refresh};
use contract::{Problem, ProblemKind};
use domain::network::neighbour;
use poem::Request;
use poem_openapi::{ApiResponse, OpenApi};

use self::session::{SessionKind, SignedIn};
use crate::browser;
use crate::caller::Caller;
use crate::credentials::Credentials;
use crate::document::Tag;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{OpenWithBody, Refusal, Session};
use crate::visit::Visit;

pub mod session;

/// The operations.
pub struct Auth {
    owners: Owners,
    credentials: Arc<Credentials>,
}

/// The end of a session.
#[derive(ApiResponse)]
pub enum LoggedOut {
    /// The session has ended: neither its access token nor its refresh token is accepted any more.
    #[oai(status = 204)]
    Done,
}

impl Auth {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners, credentials: Arc<Credentials>) -> Self {
        Self {
            owners,
            credentials,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Auth {
    /// Log in
    ///
    /// Attempts are limited for each address and account. With `"session": "COOKIE"` the tokens go into cookies, for
    /// browsers; that needs TLS, or a gateway that says it has none.
    #[oai(path = "/login", method = "post", operation_id = "auth_login")]
    async fn login(
        &self,
        request: &Request,
        body: Given<session::Login>,
    ) -> Result<SignedIn, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let Given(asked) = body;
        let cookies = match asked.session {
            SessionKind::Token => None,
            SessionKind::Cookie => Some(browser::session::Session::offered(request)?),
        };
        let login = Login {
            email: asked.email,
            password: asked.password,
            address: neighbour(visit.address).to_string(),
        };
        let tokens = self
            .owners
            .write_open(&login)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(SignedIn::with(tokens, cookies.as_ref(), request)?)
    }

    /// Get a new access token
    ///
    /// The refresh token is used up, and a new one comes with the answer. Where the session is in cookies the body is empty,
    /// and `X-CSRF-Token` is needed.
    #[oai(path = "/refresh", method = "post", operation_id = "auth_refresh")]
    async fn refresh(
        &self,
        request: &Request,
        body: Given<session::Refresh>,
    ) -> Result<SignedIn, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let (refresh_token, cookies) = body.0.token(request)?;
        let refreshed = self.owners.write_open(&Refresh { refresh_token }).await;
        if let (Some(cookies), Err(Problem { kind, .. })) = (&cookies, &refreshed)
            && *kind == ProblemKind::Unauthenticated
        {
            // It is over: a browser that went on showing the cookies would be refused for ever.
            session::forget(cookies, request)?;
        }
        let tokens =
            refreshed.map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(SignedIn::with(tokens, cookies.as_ref(), request)?)
    }

    /// Log out
    #[oai(path = "/logout", method = "post", operation_id = "auth_logout")]
    async fn logout(
        &self,
        caller: Caller,
        request: &Request,
    ) -> Result<LoggedOut, Refusal<Session>> {
        self.owners.write(&caller, &Logout {}).await?;
        if let Some(cookies) = browser::session::carried(request) {
            session::forget(&cookies, request)?;
        }
        // Other replicas hear of it; this one knows.
        self.credentials.revoke(caller.credential());
        Ok(LoggedOut::Done)
    }

    /// Who the credential speaks for
    #[oai(path = "/me", method = "get", operation_id = "auth_me")]
    async fn me(&self, caller: Caller) -> Result<Shown<Principal>, Refusal<Session>> {
        Ok(Shown(self.owners.read(&caller, &Me {}).await?))
    }
}

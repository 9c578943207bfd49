//! Logging in and out.

use std::sync::Arc;

use contract::identity::{Login, Logout, Me, Principal, Refresh, Tokens};
use domain::network::neighbour;
use poem::Request;
use poem_openapi::{ApiResponse, OpenApi};

use crate::caller::Caller;
use crate::credentials::Credentials;
use crate::document::Tag;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{OpenWithBody, Refusal, Session};
use crate::visit::Visit;

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
    /// Attempts are limited for each address and account.
    #[oai(path = "/login", method = "post", operation_id = "auth_login")]
    async fn login(
        &self,
        request: &Request,
        body: Given<Login>,
    ) -> Result<Shown<Tokens>, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let Given(login) = body;
        let login = Login {
            address: neighbour(visit.address).to_string(),
            ..login
        };
        let tokens = self
            .owners
            .write_open(&login)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(Shown(tokens))
    }

    /// Get a new access token
    ///
    /// The refresh token is used up, and a new one comes with the answer.
    #[oai(path = "/refresh", method = "post", operation_id = "auth_refresh")]
    async fn refresh(
        &self,
        request: &Request,
        body: Given<Refresh>,
    ) -> Result<Shown<Tokens>, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let tokens = self
            .owners
            .write_open(&body.0)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(Shown(tokens))
    }

    /// Log out
    #[oai(path = "/logout", method = "post", operation_id = "auth_logout")]
    async fn logout(&self, caller: Caller) -> Result<LoggedOut, Refusal<Session>> {
        self.owners.write(&caller, &Logout {}).await?;
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

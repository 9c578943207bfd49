//! Logging in and out, sessions, passwords.

use std::sync::Arc;

use contract::identity::{
    InvitationAccept, Login, Logout, Me, PasswordChange, PasswordForgot, PasswordReset, Principal,
    Refresh, SessionList, SessionPage, SessionRevoke, Switch, Tokens,
};
use contract::{Problem, ProblemKind};
use poem::Request;
use poem::http::header;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};

use self::session::{SessionKind, SignedIn};
use super::parameter::{Id, Limit, Maybe};
use crate::address::neighbour_text;
use crate::browser;
use crate::caller::Caller;
use crate::credentials::Credentials;
use crate::document::Tag;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, OpenWithBody, Refusal, Session};
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

/// A session that is no more.
#[derive(ApiResponse)]
pub enum SessionRevoked {
    /// The session has ended: none of its tokens is accepted any more.
    #[oai(status = 204)]
    Done,
}

/// A new password.
#[derive(ApiResponse)]
pub enum PasswordSet {
    /// The password is the new one.
    #[oai(status = 204)]
    Done,
}

/// A wish for a link.
#[derive(ApiResponse)]
pub enum PasswordForgotten {
    /// If there is such a person, and mail is set up, a link is on its way.
    #[oai(status = 202)]
    Noted,
}

/// A person who joined.
#[derive(ApiResponse)]
pub enum InvitationAccepted {
    /// The person belongs to the organisation, and is logged in there.
    #[oai(status = 201)]
    Joined(Shown<Tokens>),
}

/// What the client says it is, as far as it can be read.
fn user_agent(request: &Request) -> String {
    let value = request.headers().get(header::USER_AGENT);
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().to_owned()
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
            address: neighbour_text(visit.address),
            user_agent: user_agent(request),
            organization_id: asked.organization_id,
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

    /// Go into another organisation
    ///
    /// A new session of the same person begins there. The present one goes on; in a browser the new one's cookies take its
    /// place.
    #[oai(path = "/switch", method = "post", operation_id = "auth_switch")]
    async fn switch(
        &self,
        caller: Caller,
        request: &Request,
        body: Given<Switch>,
    ) -> Result<SignedIn, Refusal<ChangeWithBody>> {
        let cookies = browser::session::carried(request);
        let switch = Switch {
            address: neighbour_text(Visit::of(request)?.address),
            user_agent: user_agent(request),
            ..body.0
        };
        let tokens = self.owners.write(&caller, &switch).await?;
        Ok(SignedIn::with(tokens, cookies.as_ref(), request)?)
    }

    /// List one's own sessions
    ///
    /// Those that go on, in all organisations, the newest first.
    #[oai(path = "/sessions", method = "get", operation_id = "auth_session_list")]
    async fn sessions(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Shown<SessionPage>, Refusal<Listing>> {
        let question = SessionList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Shown(self.owners.read(&caller, &question).await?))
    }

    /// End one of one's own sessions
    #[oai(
        path = "/sessions/:id",
        method = "delete",
        operation_id = "auth_session_revoke"
    )]
    async fn session_revoke(
        &self,
        caller: Caller,
        /// The session.
        id: Path<Id>,
    ) -> Result<SessionRevoked, Refusal<Change>> {
        let session_id = id.0.0.into();
        self.owners
            .write(&caller, &SessionRevoke { session_id })
            .await?;
        self.credentials.revoke(session_id);
        Ok(SessionRevoked::Done)
    }

    /// Change one's password
    ///
    /// The person's other sessions end, in all organisations. Attempts are limited.
    #[oai(
        path = "/password",
        method = "post",
        operation_id = "auth_password_change"
    )]
    async fn password(
        &self,
        caller: Caller,
        body: Given<PasswordChange>,
    ) -> Result<PasswordSet, Refusal<ChangeWithBody>> {
        self.owners.write(&caller, &body.0).await?;
        Ok(PasswordSet::Done)
    }

    /// Ask for a link to set a new password
    ///
    /// The answer is the same, and comes after the same time, whether or not there is such a person. Without mail set up,
    /// somebody who manages the organisation makes the link.
    #[oai(
        path = "/password/reset",
        method = "post",
        operation_id = "auth_password_forgot"
    )]
    async fn forgot(
        &self,
        request: &Request,
        body: Given<PasswordForgot>,
    ) -> Result<PasswordForgotten, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        self.credentials.may_ask(visit.address)?;
        let forgot = PasswordForgot {
            address: neighbour_text(visit.address),
            ..body.0
        };
        self.owners.write_open(&forgot).await?;
        Ok(PasswordForgotten::Noted)
    }

    /// Set a new password by a link
    ///
    /// The link works once. All of the person's sessions end.
    #[oai(
        path = "/password/reset/complete",
        method = "post",
        operation_id = "auth_password_reset"
    )]
    async fn reset(
        &self,
        request: &Request,
        body: Given<PasswordReset>,
    ) -> Result<PasswordSet, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        self.owners
            .write_open(&body.0)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(PasswordSet::Done)
    }

    /// Take an invitation
    ///
    /// The link works once. A new person chooses name and password; one who has an account gives its password.
    #[oai(
        path = "/invitations/accept",
        method = "post",
        operation_id = "auth_invitation_accept"
    )]
    async fn accept(
        &self,
        request: &Request,
        body: Given<InvitationAccept>,
    ) -> Result<InvitationAccepted, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let accept = InvitationAccept {
            address: neighbour_text(visit.address),
            user_agent: user_agent(request),
            ..body.0
        };
        let tokens = self
            .owners
            .write_open(&accept)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(InvitationAccepted::Joined(Shown(tokens)))
    }
}

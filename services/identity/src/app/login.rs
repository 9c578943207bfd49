//! Sessions of people: login, refresh, logout, who am I. What a person does with sessions besides is in [`super::session`].

use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use contract::grant::PrincipalKind;
use contract::identity::{Done, Login, Principal, Refresh, Tokens};
use contract::{Author, Grant, Origin, Problem, ProblemKind};
use database::{DatabaseError, OutboxRow, Tx};
use domain::{CredentialId, OrgId, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::app::acting::forbidden;
use crate::app::attempts::{guessed_wrong, who};
use crate::app::password::rules;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store;
use crate::store::session::{Client, TokenHashes};
use crate::store::user::LoginRow;

/// Life of an access token, in seconds.
const ACCESS_SECONDS: u32 = 15 * 60;
/// Life of a refresh token, in seconds.
const REFRESH_SECONDS: u32 = 7 * 24 * 3_600;
/// How long after a refresh the same question gets the same answer, in seconds: it may have been lost on its way.
const REPEAT_SECONDS: f64 = 30.0;
/// The longest e-mail address, in characters.
const EMAIL_MAX_CHARS: usize = 254;
/// The longest network address and the longest name of a client that are kept.
const ADDRESS_MAX_CHARS: usize = 64;
const USER_AGENT_MAX_CHARS: usize = 200;

pub(crate) fn unauthenticated(detail: &str) -> IdentityError {
    Problem::new(ProblemKind::Unauthenticated, detail).into()
}

impl App {
    /// Begins a session. The same words, after the same time, whether the account exists.
    ///
    /// # Errors
    /// UNAUTHENTICATED, RATE_LIMITED, UNAVAILABLE; and with the right password FORBIDDEN when the account is disabled or
    /// belongs to no (or not to this) organisation that is open.
    pub async fn login(&self, from: &Origin, request: Login) -> Result<Tokens, IdentityError> {
        let result = self.login_limited(from, request).await;
        self.metrics.login(Outcome::of(&result));
        result
    }

    async fn login_limited(&self, from: &Origin, request: Login) -> Result<Tokens, IdentityError> {
        let email = request.email.trim().to_lowercase();
        if email.chars().count() > EMAIL_MAX_CHARS {
            let text = format!("has more than {EMAIL_MAX_CHARS} characters");
            return Err(Problem::invalid("email", text).into());
        }
        check_length("password", &request.password)?;
        let who = who("login", &request.address, &email);
        self.attempt_begin(&who).await?;
        let result = self.login_checked(from, &email, request).await;
        self.attempt_end(&who, guessed_wrong(&result)).await;
        result
    }

    async fn login_checked(
        &self,
        from: &Origin,
        email: &str,
        request: Login,
    ) -> Result<Tokens, IdentityError> {
        // PostgreSQL takes no NUL in a text; no address has one.
        let user = match email.contains('\0') {
            true => None,
            false => {
                store::user::login(self.pools.system(), email, request.organization_id).await?
            }
        };
        let phc = user.as_ref().map(|user| user.password_hash.clone());
        let fits = self.passwords.verify(request.password, phc).await?;
        let denied = |user: &LoginRow, reason: &str| {
            // Also where a foreign organisation is named: naming one must not keep guesses out of the audit.
            if let Some(org) = user.org_id.or(user.home) {
                let entry = session_entry(OrgId(org), UserId(user.id), "auth.login", from);
                self.denials.note(entry.denied(reason));
            }
        };
        if let Some(user) = user.as_ref().filter(|_| !fits) {
            denied(user, "the password is wrong");
        }
        let Some(user) = user.filter(|_| fits) else {
            return Err(unauthenticated(
                "the e-mail address or the password is wrong",
            ));
        };
        if user.disabled {
            denied(&user, "this account is disabled");
            return Err(forbidden("this account is disabled").into());
        }
        let Some(org) = user.org_id.map(OrgId) else {
            let text = match request.organization_id {
                None => "this account belongs to no organisation",
                Some(_) => "this account does not belong to this organisation",
            };
            self.denied_everywhere(user.id, "auth.login", from, text)
                .await?;
            return Err(forbidden(text).into());
        };
        let client = client(&request.address, &request.user_agent);
        let user = UserId(user.id);
        let entry = session_entry(org, user, "auth.login", from);
        self.session_begin(org, user, client, entry).await
    }

    /// Tells each organisation that a person is in of an attempt that was refused.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub(crate) async fn denied_everywhere(
        &self,
        person: Uuid,
        call: &str,
        from: &Origin,
        reason: &str,
    ) -> Result<(), IdentityError> {
        let mut tx = self.pools.system_tx().await?;
        let orgs = store::user::organizations_in_tx(&mut tx, person).await?;
        drop(tx);
        for org in orgs {
            let entry = session_entry(OrgId(org), UserId(person), call, from);
            self.denials.note(entry.denied(reason));
        }
        Ok(())
    }

    /// A new session of a member, with the entry that tells of it.
    ///
    /// # Errors
    /// FORBIDDEN when the person is no member by now; UNAVAILABLE.
    pub(crate) async fn session_begin(
        &self,
        org: OrgId,
        user: UserId,
        client: Client<'_>,
        entry: AuditEntry,
    ) -> Result<Tokens, IdentityError> {
        let mut tx = self.pools.tenant_tx(org).await?;
        let (session, tokens) = session_begin_in_tx(&mut tx, org, user, client).await?;
        // Whoever came by another session is told by that one.
        let credential = entry.credential.or(Some(session));
        audit::note_in_tx(
            &mut tx,
            AuditEntry {
                credential,
                ..entry
            },
        )
        .await?;
        tx.commit().await?;
        self.audit_relay.wake();
        Ok(tokens)
    }

    /// Replaces a session's tokens. A refresh token works once. Its successor follows from it, so that whoever lost the
    /// answer gets the same one for [`REPEAT_SECONDS`]; shown later it was copied, and the session ends. So it does for
    /// each token before, however often the session was refreshed since: all end with the session's family.
    ///
    /// # Errors
    /// UNAUTHENTICATED, UNAVAILABLE.
    pub async fn refresh(&self, from: &Origin, request: &Refresh) -> Result<Tokens, IdentityError> {
        let is_one = SecretKind::RefreshToken.is_of(&request.refresh_token);
        let family = secret::family(&request.refresh_token).filter(|_| is_one);
        let family =
            family.ok_or_else(|| unauthenticated("this is not a refresh token; log in again"))?;
        let (hash, family_hash) = (secret::hash(&request.refresh_token), secret::hash(family));
        let follows = |kind| self.signer.successors(kind, &request.refresh_token);
        let (access, refresh) = (
            follows(SecretKind::AccessToken)?,
            follows(SecretKind::RefreshToken)?,
        );
        let (tokens, hashes) = hashed(access.first, &refresh.first, family);
        if store::session::rotate(self.pools.system(), &hash, &hashes).await? {
            return Ok(tokens);
        }
        // What was given before the keys that sign were rotated, or by a replica that has not come to the new one.
        let others = access.others.into_iter().zip(refresh.others);
        let given: Vec<_> = std::iter::once((tokens, hashes))
            .chain(others.map(|(access, refresh)| hashed(access, &refresh, family)))
            .collect();
        let successors: Vec<_> = given.iter().map(|(_, hashes)| hashes.refresh).collect();
        let mut tx = self.pools.system_tx().await?;
        let found = store::session::by_refresh_in_tx(
            &mut tx,
            &hash,
            &family_hash,
            &successors,
            REPEAT_SECONDS,
        );
        let Some(session) = found.await? else {
            return Err(unauthenticated(
                "this refresh token is not known; log in again",
            ));
        };
        if session.revoked {
            return Err(unauthenticated("this session was ended; log in again"));
        }
        if session.current {
            return Err(unauthenticated("this session has expired; log in again"));
        }
        let place = session
            .successor
            .and_then(|place| usize::try_from(place - 1).ok());
        if let Some((tokens, _)) = place.and_then(|place| given.into_iter().nth(place)) {
            return Ok(Tokens {
                expires_in: session.access_seconds.unsigned_abs(),
                ..tokens
            });
        }
        let (org, id) = (OrgId(session.org_id), CredentialId(session.id));
        if store::session::revoke_in_tx(&mut tx, org, id).await? {
            session_revoked(org, id)
                .insert_in_tx(crate::SCHEMA, &mut tx)
                .await?;
            let actor = Actor::service(contract::identity::SERVICE);
            let entry = AuditEntry::new(org, actor, "auth.refresh", Resource::of("session", id));
            let entry = entry.with(id).asked(from);
            let reason = "a refresh token was used twice; the session was ended";
            audit::note_in_tx(&mut tx, entry.denied(reason)).await?;
        }
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::warn!(%org, session = %id, "a refresh token was used twice; the session was ended");
        Err(unauthenticated(
            "this refresh token was used before, so the session was ended; log in again",
        ))
    }

    /// Ends the session of a grant.
    ///
    /// # Errors
    /// FORBIDDEN when the grant is not of a session; UNAVAILABLE.
    pub async fn logout(&self, grant: &Author) -> Result<Done, IdentityError> {
        if grant.kind != PrincipalKind::User {
            let text = "only a login session can log out; an API key is revoked instead";
            return Err(Problem::new(ProblemKind::Forbidden, text).into());
        }
        let mut tx = self.pools.tenant_tx(grant.org).await?;
        if store::session::revoke_in_tx(&mut tx, grant.org, grant.credential).await? {
            let event = session_revoked(grant.org, grant.credential);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
            let entry = grant.did("auth.logout", Resource::of("session", grant.credential));
            audit::note_in_tx(&mut tx, entry).await?;
        }
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        Ok(Done {})
    }

    /// Who a grant speaks for.
    ///
    /// # Errors
    /// UNAUTHENTICATED when its principal is no more; UNAVAILABLE.
    pub async fn me(&self, grant: &Grant) -> Result<Principal, IdentityError> {
        let mut tx = self.pools.tenant_tx(grant.org).await?;
        let organization_name = store::organization::name_in_tx(&mut tx, grant.org).await?;
        let (email, name) = match grant.kind {
            PrincipalKind::User => {
                let person = store::user::person_in_tx(&mut tx, grant.sub).await?;
                person.map_or((None, None), |(email, name)| (Some(email), Some(name)))
            }
            PrincipalKind::ApiKey => (
                None,
                store::api_key::name_in_tx(&mut tx, grant.org, grant.sub).await?,
            ),
            PrincipalKind::Service | PrincipalKind::Module => (None, None),
        };
        tx.commit().await?;
        let (Some(organization_name), Some(name)) = (organization_name, name) else {
            return Err(unauthenticated(
                "whoever this credential belonged to is no more",
            ));
        };
        Ok(Principal {
            id: grant.sub,
            kind: grant.kind,
            email,
            name,
            organization_id: grant.org,
            organization_name,
            role: grant.role,
            scopes: grant.scopes.clone(),
        })
    }
}

/// Refuses a password that nobody can have.
///
/// # Errors
/// INVALID naming the field.
pub(crate) fn check_length(path: &str, password: &str) -> Result<(), Problem> {
    if password.len() <= rules::MAX_BYTES {
        return Ok(());
    }
    let text = format!("has more than {} bytes", rules::MAX_BYTES);
    Err(Problem::invalid(path, text))
}

/// Whence a session begins, as far as it is kept.
pub(crate) fn client<'a>(address: &'a str, user_agent: &'a str) -> Client<'a> {
    Client {
        address: kept(address, ADDRESS_MAX_CHARS),
        user_agent: kept(user_agent, USER_AGENT_MAX_CHARS),
    }
}

/// A text that people are shown, cut; nothing of one that has what no reader sees.
fn kept(text: &str, most: usize) -> Option<&str> {
    let end = text
        .char_indices()
        .nth(most)
        .map_or(text.len(), |(at, _)| at);
    let deceives = |c: char| c.is_control() || domain::text::is_hidden(c);
    text.get(..end)
        .filter(|text| !text.is_empty() && !text.contains(deceives))
}

/// A new session of a member, and its tokens.
///
/// # Errors
/// FORBIDDEN when the person is no member by now; UNAVAILABLE.
pub(crate) async fn session_begin_in_tx(
    tx: &mut Tx,
    org: OrgId,
    user: UserId,
    client: Client<'_>,
) -> Result<(CredentialId, Tokens), IdentityError> {
    let (tokens, hashes) = new_tokens();
    let id = CredentialId::new();
    let begun = store::session::insert_in_tx(tx, org, id, user, &hashes, client).await;
    match begun.map_err(DatabaseError::from) {
        Ok(()) => Ok((id, tokens)),
        // Removed since it was looked.
        Err(error) if error.constraint() == Some("sessions_membership_fkey") => {
            Err(forbidden("this account is no longer a member").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn new_tokens() -> (Tokens, TokenHashes) {
    hashed(
        secret::new(SecretKind::AccessToken),
        &secret::new(SecretKind::RefreshToken),
        &secret::new_family(),
    )
}

/// A pair of tokens, of which the refresh token is of this family, and their hashes.
fn hashed(access_token: String, refresh: &str, family: &str) -> (Tokens, TokenHashes) {
    let refresh_token = format!("{refresh}{family}");
    let hashes = TokenHashes {
        access: secret::hash(&access_token),
        access_seconds: ACCESS_SECONDS.into(),
        refresh: secret::hash(&refresh_token),
        refresh_seconds: REFRESH_SECONDS.into(),
        family: secret::hash(family),
    };
    (
        Tokens {
            access_token,
            refresh_token,
            expires_in: ACCESS_SECONDS,
        },
        hashes,
    )
}

/// What a person did with sessions, who has no grant yet.
pub(crate) fn session_entry(org: OrgId, user: UserId, call: &str, from: &Origin) -> AuditEntry {
    let actor = Actor::of(ActorKind::User, user.0);
    AuditEntry::new(org, actor, call, Resource::kind("session")).asked(from)
}

/// A session ends once, so its only event is its first.
pub(crate) fn session_revoked(org: OrgId, session: CredentialId) -> OutboxRow {
    OutboxRow::new(
        org,
        "user",
        "revoked",
        session.0,
        1,
        json!({ "credential": session }),
    )
}

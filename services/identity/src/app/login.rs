//! Sessions of people: login, refresh, logout, who am I.

use std::time::{Duration, Instant};

use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use contract::grant::PrincipalKind;
use contract::identity::{Done, Login, Principal, Refresh, Tokens};
use contract::{Author, Grant, Origin, Problem, ProblemKind};
use database::OutboxRow;
use domain::{CredentialId, OrgId, UserId};
use serde_json::json;

use crate::app::buckets::Buckets;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store;
use crate::store::session::TokenHashes;

/// Life of an access token, in seconds.
const ACCESS_SECONDS: u32 = 15 * 60;
/// Life of a refresh token, in seconds.
const REFRESH_SECONDS: u32 = 7 * 24 * 3_600;
/// How long after a refresh the same question gets the same answer, in seconds: it may have been lost on its way.
const REPEAT_SECONDS: f64 = 30.0;
/// Failed logins that an address may have for one account at once, and in a minute.
const FAILURES_PER_MINUTE: u32 = 10;
/// How many pairs of address and account are remembered.
const FAILURES_REMEMBERED: usize = 65_536;
/// The longest e-mail address, in characters.
const EMAIL_MAX_CHARS: usize = 254;
/// The longest password, in bytes.
const PASSWORD_MAX_BYTES: usize = 1_024;
/// The longest network address that is remembered.
const ADDRESS_MAX_CHARS: usize = 64;
/// How often sessions that ended are removed, and how many at once.
const CLEANUP_EVERY: Duration = Duration::from_secs(3_600);
const CLEANUP_BATCH: i64 = 1_000;

/// Failed logins, by address and account.
#[must_use]
pub fn failures() -> Buckets<(String, String)> {
    let per_second = f64::from(FAILURES_PER_MINUTE) / 60.0;
    Buckets::new(FAILURES_PER_MINUTE, per_second, FAILURES_REMEMBERED)
}

fn unauthenticated(detail: &str) -> IdentityError {
    Problem::new(ProblemKind::Unauthenticated, detail).into()
}

impl App {
    /// Begins a session. The same words, after the same time, whether the account exists.
    ///
    /// # Errors
    /// UNAUTHENTICATED, RATE_LIMITED, UNAVAILABLE.
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
        if request.password.len() > PASSWORD_MAX_BYTES {
            let text = format!("has more than {PASSWORD_MAX_BYTES} bytes");
            return Err(Problem::invalid("password", text).into());
        }
        let who = (
            request.address.chars().take(ADDRESS_MAX_CHARS).collect(),
            email,
        );
        // Taken before the attempt and given back unless it failed, so that many at once count too.
        self.login_failures
            .take(&who, Instant::now())
            .map_err(|wait| Problem {
                retry_after_ms: u64::try_from(wait.as_millis()).ok(),
                ..Problem::new(
                    ProblemKind::RateLimited,
                    "too many failed logins for this account from this address; wait a minute",
                )
            })?;
        let result = self.login_checked(from, &who.1, request.password).await;
        let failed = matches!(
            &result,
            Err(IdentityError::Refused(problem)) if problem.kind == ProblemKind::Unauthenticated
        );
        if !failed {
            self.login_failures.give_back(&who);
        }
        result
    }

    async fn login_checked(
        &self,
        from: &Origin,
        email: &str,
        password: String,
    ) -> Result<Tokens, IdentityError> {
        // PostgreSQL takes no NUL in a text; no address has one.
        let user = match email.contains('\0') {
            true => None,
            false => store::user::login(self.pools.system(), email).await?,
        };
        let phc = user.as_ref().map(|user| user.password_hash.clone());
        let fits = self.passwords.verify(password, phc).await?;
        if let Some(user) = user.as_ref().filter(|_| !fits)
            && let Some(org) = user.org_id
        {
            let entry = session_entry(OrgId(org), UserId(user.id), "auth.login", from);
            self.denials.note(entry.denied("the password is wrong"));
        }
        let Some(user) = user.filter(|_| fits) else {
            return Err(unauthenticated(
                "the e-mail address or the password is wrong",
            ));
        };
        let org = user.org_id.map(OrgId).ok_or_else(|| {
            Problem::new(
                ProblemKind::Forbidden,
                "this account belongs to no organisation",
            )
        })?;
        let (tokens, hashes) = new_tokens();
        let mut tx = self.pools.tenant_tx(org).await?;
        let (session, user) = (CredentialId::new(), UserId(user.id));
        store::session::insert_in_tx(&mut tx, org, session, user, &hashes).await?;
        let entry = session_entry(org, user, "auth.login", from).with(session);
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        Ok(tokens)
    }

    /// Replaces a session's tokens. A refresh token works once. Its successor follows from it, so that whoever lost the
    /// answer gets the same one for [`REPEAT_SECONDS`]; shown later it was copied, and the session ends.
    ///
    /// # Errors
    /// UNAUTHENTICATED, UNAVAILABLE.
    pub async fn refresh(&self, from: &Origin, request: &Refresh) -> Result<Tokens, IdentityError> {
        if !SecretKind::RefreshToken.is_of(&request.refresh_token) {
            return Err(unauthenticated("this is not a refresh token; log in again"));
        }
        let hash = secret::hash(&request.refresh_token);
        let follows = |kind| self.signer.successor(kind, &request.refresh_token);
        let (tokens, hashes) = hashed(
            follows(SecretKind::AccessToken)?,
            follows(SecretKind::RefreshToken)?,
        );
        if store::session::rotate(self.pools.system(), &hash, &hashes).await? {
            return Ok(tokens);
        }
        let mut tx = self.pools.system_tx().await?;
        let found =
            store::session::by_refresh_in_tx(&mut tx, &hash, &hashes.refresh, REPEAT_SECONDS);
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
        if let Some(left) = session.repeated {
            return Ok(Tokens {
                expires_in: left.unsigned_abs(),
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

    /// Removes sessions that ended, now and then, for ever.
    pub async fn session_cleanup_run(self: std::sync::Arc<Self>) {
        loop {
            tokio::time::sleep(CLEANUP_EVERY).await;
            loop {
                match store::session::delete_ended(self.pools.system(), CLEANUP_BATCH).await {
                    Ok(deleted) if deleted == CLEANUP_BATCH.unsigned_abs() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::debug!(%error, "ended sessions stay for another hour");
                        break;
                    }
                }
            }
        }
    }
}

fn new_tokens() -> (Tokens, TokenHashes) {
    hashed(
        secret::new(SecretKind::AccessToken),
        secret::new(SecretKind::RefreshToken),
    )
}

fn hashed(access_token: String, refresh_token: String) -> (Tokens, TokenHashes) {
    let hashes = TokenHashes {
        access: secret::hash(&access_token),
        access_seconds: ACCESS_SECONDS.into(),
        refresh: secret::hash(&refresh_token),
        refresh_seconds: REFRESH_SECONDS.into(),
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
fn session_entry(org: OrgId, user: UserId, call: &str, from: &Origin) -> AuditEntry {
    let actor = Actor::of(ActorKind::User, user.0);
    AuditEntry::new(org, actor, call, Resource::kind("session")).asked(from)
}

/// A session ends once, so its only event is its first.
fn session_revoked(org: OrgId, session: CredentialId) -> OutboxRow {
    OutboxRow::new(
        org,
        "user",
        "revoked",
        session.0,
        1,
        json!({ "credential": session }),
    )
}

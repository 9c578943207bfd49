//! A credential for a grant; in `principal` a grant for somebody who is not there to show one.

mod principal;

use std::sync::Arc;

use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use contract::grant::{ISSUER, LIFETIME_SECONDS, PrincipalKind};
use contract::identity::{Exchange, Exchanged};
use contract::{Grant, Origin, Problem, ProblemKind};
use domain::access::{LEGACY_OPERATOR, Role, Scopes};
use domain::{CredentialId, OrgId, Timestamp};
use uuid::Uuid;

use crate::app::App;
use crate::app::secret::{self, SecretKind};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store;
use crate::store::api_key::ApiKeyRow;
use crate::store::session::SessionRow;

/// The services that a grant is for.
const AUDIENCE: [&str; 5] = ["identity", "action", "metrics", "scheduler", "worker"];

/// What a credential of a closed organisation is told.
const CLOSED: &str = "this organisation is closed";
/// What a session is told whose person was removed.
const NO_MEMBER: &str = "this account is no longer a member of the organisation; log in again";
/// What a key is told whose maker was removed: it was lent what that person had.
const NO_MAKER: &str = "whoever made this API key is no longer a member, or disabled";

fn refused(detail: &str) -> IdentityError {
    Problem::new(ProblemKind::Unauthenticated, detail).into()
}

fn role(text: &str) -> Result<Role, IdentityError> {
    text.parse().map_err(IdentityError::Internal)
}

/// Whoever stands behind a credential.
struct Holder {
    org: OrgId,
    sub: Uuid,
    kind: PrincipalKind,
    role: Role,
    scopes: Scopes,
    credential: CredentialId,
    expires_at: Option<Timestamp>,
    networks: Option<Vec<String>>,
    legacy: bool,
}

impl App {
    /// Exchanges an access token, an API key or a legacy key for a grant, which never outlives it.
    ///
    /// # Errors
    /// UNAUTHENTICATED in words that say whether to log in, to refresh or to ask for a new key; UNAVAILABLE.
    pub async fn exchange(
        self: &Arc<Self>,
        from: &Origin,
        request: &Exchange,
    ) -> Result<Exchanged, IdentityError> {
        let result = self.exchange_checked(from, &request.credential).await;
        self.metrics.exchange(Outcome::of(&result));
        result
    }

    async fn exchange_checked(
        self: &Arc<Self>,
        from: &Origin,
        credential: &str,
    ) -> Result<Exchanged, IdentityError> {
        let holder = if SecretKind::AccessToken.is_of(credential) {
            self.session_holder(from, credential).await?
        } else if SecretKind::ApiKey.is_of(credential) || SecretKind::LegacyKey.is_of(credential) {
            self.key_holder(from, credential).await?
        } else {
            return Err(refused(
                "this is neither an access token (dfa_…) nor an API key (dfk_…, or dfl_… for agents of Dash-Fleet)",
            ));
        };
        self.granted(holder, &AUDIENCE, LIFETIME_SECONDS)
    }

    /// Signs what a holder may do, for these services and for so many seconds; never for longer than its credential.
    fn granted(
        &self,
        holder: Holder,
        audience: &[&str],
        seconds: i64,
    ) -> Result<Exchanged, IdentityError> {
        let iat = Timestamp::now().millis() / 1_000;
        let ends = holder.expires_at.map_or(i64::MAX, |at| at.millis() / 1_000);
        let grant = Grant {
            iss: ISSUER.into(),
            org: holder.org,
            sub: holder.sub,
            kind: holder.kind,
            role: holder.role,
            scopes: holder.scopes,
            aud: audience
                .iter()
                .map(|service| (*service).to_owned())
                .collect(),
            credential: holder.credential,
            iat,
            exp: (iat + seconds).min(ends),
        };
        let expires_at = Timestamp::from_millis(grant.exp.saturating_mul(1_000))
            .ok_or_else(|| IdentityError::internal("a grant expires beyond the calendar"))?;
        Ok(Exchanged {
            grant: self.signer.grant(&grant)?,
            credential: grant.credential,
            org: grant.org,
            expires_at,
            networks: holder.networks,
            legacy: holder.legacy,
        })
    }

    /// Refuses a credential of somebody who is known, and notes it: whoever shows it still has it, or found it.
    fn exchange_denied(&self, attempt: AuditEntry, reason: &str) -> IdentityError {
        self.denials.note(attempt.denied(reason));
        refused(reason)
    }

    async fn session_holder(
        self: &Arc<Self>,
        from: &Origin,
        credential: &str,
    ) -> Result<Holder, IdentityError> {
        let hash = secret::hash(credential);
        let session = store::session::by_access(self.pools.system(), &hash)
            .await?
            .ok_or_else(|| refused("this access token is not known; refresh it or log in again"))?;
        if let Some(reason) = session_refusal(&session) {
            let actor = Actor::of(ActorKind::User, session.user_id);
            let resource = Resource::of("session", session.id);
            let org = OrgId(session.org_id);
            let attempt = AuditEntry::new(org, actor, "grant.exchange", resource);
            return Err(self.exchange_denied(attempt.with(session.id).asked(from), reason));
        }
        // Once in a quarter of an hour this is so for everybody: no attempt at anything, so the audit is not told.
        if session.expired {
            return Err(refused("this access token has expired; refresh it"));
        }
        let role = session.role.as_deref().map(role).transpose()?;
        let role = role.ok_or_else(|| refused(NO_MEMBER))?;
        let (org, credential) = (OrgId(session.org_id), CredentialId(session.id));
        if session.use_is_news {
            // As with a key's use, below.
            let app = self.clone();
            self.shutdown.spawn(async move {
                let noted = store::session::used(app.pools.system(), org, credential).await;
                if let Err(error) = noted {
                    tracing::debug!(%error, session = %credential, "the session's use was not noted");
                }
            });
        }
        let scopes = match session.platform_admin {
            true => role.scopes().with_platform_admin(),
            false => role.scopes(),
        };
        Ok(Holder {
            org,
            sub: session.user_id,
            kind: PrincipalKind::User,
            role,
            scopes,
            credential,
            expires_at: Some(session.access_expires_at.into()),
            networks: None,
            legacy: false,
        })
    }

    async fn key_holder(
        self: &Arc<Self>,
        from: &Origin,
        credential: &str,
    ) -> Result<Holder, IdentityError> {
        let hash = secret::hash(credential);
        let key = store::api_key::by_hash(self.pools.system(), &hash)
            .await?
            .ok_or_else(|| refused("this API key is not known"))?;
        if let Some(reason) = key_refusal(&key, credential) {
            let actor = Actor::of(ActorKind::ApiKey, key.id);
            let resource = Resource::of("api-key", key.id);
            let attempt = AuditEntry::new(OrgId(key.org_id), actor, "grant.exchange", resource);
            return Err(self.exchange_denied(attempt.with(key.id).asked(from), reason));
        }
        let (org, credential) = (OrgId(key.org_id), CredentialId(key.id));
        if key.use_is_news {
            // Nobody waits for this commit; when it fails, the next minute's use is news again.
            let app = self.clone();
            self.shutdown.spawn(async move {
                let noted = store::api_key::used(app.pools.system(), org, credential).await;
                if let Err(error) = noted {
                    tracing::debug!(%error, key = %credential, "the key's use was not noted");
                }
            });
        }
        let (role, scopes) = rights(&key)?;
        Ok(Holder {
            org,
            sub: key.id,
            kind: PrincipalKind::ApiKey,
            role,
            scopes,
            credential,
            expires_at: key.expires_at.map(Into::into),
            networks: key.networks,
            legacy: key.is_legacy,
        })
    }
}

/// Why a key is no longer good; `None` while it is.
fn ended(key: &ApiKeyRow) -> Option<&'static str> {
    match (key.revoked, key.expired) {
        (true, _) => Some("this API key was revoked"),
        (false, true) => Some("this API key has expired"),
        (false, false) => None,
    }
}

/// Why a session gives no grant, but for an access token that only has to be refreshed.
fn session_refusal(session: &SessionRow) -> Option<&'static str> {
    if session.revoked {
        Some("this session was ended; log in again")
    } else if session.role.is_none() {
        Some(NO_MEMBER)
    } else if session.disabled {
        Some("this account is disabled")
    } else if session.closed {
        Some(CLOSED)
    } else {
        None
    }
}

/// Why a key gives no grant.
fn key_refusal(key: &ApiKeyRow, credential: &str) -> Option<&'static str> {
    if let Some(reason) = ended(key) {
        Some(reason)
    } else if key.is_legacy != SecretKind::LegacyKey.is_of(credential) {
        // The prefix is what the gateway goes by: a key is of the kind that it says it is.
        Some("this API key is not of the kind that it says")
    } else if key.closed {
        Some(CLOSED)
    } else if key.is_legacy && !key.legacy_enabled {
        Some("agents of Dash-Fleet are not enabled in this organisation")
    } else if key.created_by.is_some() && key.creator_role.is_none() {
        Some(NO_MAKER)
    } else {
        None
    }
}

/// What a key can at this moment: of its role what its scopes name, never more than its creator has now, and nothing
/// that is for people only.
fn rights(key: &ApiKeyRow) -> Result<(Role, Scopes), IdentityError> {
    let creator = match (&key.created_by, &key.creator_role) {
        // The bootstrap job's.
        (None, _) => Role::Owner,
        (Some(_), Some(text)) => role(text)?,
        (Some(_), None) => return Err(refused(NO_MAKER)),
    };
    let names = key.scopes.as_ref();
    let names = names.map(|names| names.iter().map(String::as_str));
    let mine = role(&key.role)?.min(creator);
    if key.is_legacy {
        let mut names: Vec<&str> = names.map(Iterator::collect).unwrap_or_default();
        // Queueing is an operator's right.
        names.retain(|name| *name != LEGACY_OPERATOR || creator >= Role::Operator);
        let scopes = Scopes::of_legacy_key(names).map_err(IdentityError::Internal)?;
        return Ok((mine, scopes));
    }
    let scopes = match names {
        None => mine.scopes(),
        Some(names) => Scopes::from_names(names)
            .map_err(IdentityError::Internal)?
            .intersection(&mine.scopes()),
    };
    Ok((mine, scopes.without_people_only()))
}

//! A credential for a grant.

use std::sync::Arc;

use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use contract::grant::{ISSUER, LIFETIME_SECONDS, PrincipalKind};
use contract::identity::{Exchange, Exchanged};
use contract::legacy::LegacyKey;
use contract::{Grant, Origin, Problem, ProblemKind};
use domain::access::{Role, Scopes};
use domain::{CredentialId, OrgId, Timestamp};
use uuid::Uuid;

use crate::app::App;
use crate::app::secret::{self, SecretKind};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store;

/// The services that a grant is for.
const AUDIENCE: [&str; 5] = ["identity", "action", "metrics", "scheduler", "worker"];

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
    legacy: Option<LegacyKey>,
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
            self.session_holder(credential).await?
        } else if SecretKind::ApiKey.is_of(credential) || SecretKind::LegacyKey.is_of(credential) {
            self.key_holder(from, credential).await?
        } else {
            return Err(refused(
                "this is neither an access token (dfa_…) nor an API key (dfk_…, or dfl_… for agents of Dash-Fleet)",
            ));
        };
        let iat = Timestamp::now().millis() / 1_000;
        let ends = holder.expires_at.map_or(i64::MAX, |at| at.millis() / 1_000);
        let grant = Grant {
            iss: ISSUER.into(),
            org: holder.org,
            sub: holder.sub,
            kind: holder.kind,
            role: holder.role,
            scopes: holder.scopes,
            aud: AUDIENCE.map(Into::into).to_vec(),
            credential: holder.credential,
            iat,
            exp: (iat + LIFETIME_SECONDS).min(ends),
        };
        let expires_at = Timestamp::from_millis(grant.exp.saturating_mul(1_000))
            .ok_or_else(|| IdentityError::internal("a grant expires beyond the calendar"))?;
        Ok(Exchanged {
            grant: self.signer.grant(&grant)?,
            credential: grant.credential,
            org: grant.org,
            expires_at,
            legacy: holder.legacy,
        })
    }

    async fn session_holder(&self, credential: &str) -> Result<Holder, IdentityError> {
        let hash = secret::hash(credential);
        let session = store::session::by_access(self.pools.system(), &hash)
            .await?
            .ok_or_else(|| refused("this access token is not known; refresh it or log in again"))?;
        if session.revoked {
            return Err(refused("this session was ended; log in again"));
        }
        if session.expired {
            return Err(refused("this access token has expired; refresh it"));
        }
        let role = session.role.as_deref().map(role).transpose()?;
        let role = role.ok_or_else(|| {
            refused("this account is no longer a member of the organisation; log in again")
        })?;
        Ok(Holder {
            org: OrgId(session.org_id),
            sub: session.user_id,
            kind: PrincipalKind::User,
            role,
            scopes: role.scopes(),
            credential: CredentialId(session.id),
            expires_at: Some(session.access_expires_at.into()),
            legacy: None,
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
        let ended = match (key.revoked, key.expired) {
            (true, _) => Some("this API key was revoked"),
            (false, true) => Some("this API key has expired"),
            (false, false) => None,
        };
        if let Some(reason) = ended {
            // Somebody still has it, or found it.
            let actor = Actor::of(ActorKind::ApiKey, key.id);
            let resource = Resource::of("api-key", key.id);
            let entry = AuditEntry::new(OrgId(key.org_id), actor, "grant.exchange", resource)
                .with(key.id)
                .asked(from);
            self.denials.note(entry.denied(reason));
            return Err(refused(reason));
        }
        // The prefix is what the gateway goes by: a key is of the kind that it says it is.
        if key.is_legacy != SecretKind::LegacyKey.is_of(credential) {
            return Err(refused("this API key is not of the kind that it says"));
        }
        if key.is_legacy && !key.legacy_enabled {
            return Err(refused(
                "agents of Dash-Fleet are not enabled in this organisation",
            ));
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
        let role = role(&key.role)?;
        let scopes = match &key.scopes {
            Some(names) if key.is_legacy => Scopes::of_legacy_key(names.iter().map(String::as_str))
                .map_err(IdentityError::Internal)?,
            None => role.scopes(),
            Some(names) => Scopes::from_names(names.iter().map(String::as_str))
                .map_err(IdentityError::Internal)?
                .intersection(&role.scopes()),
        };
        Ok(Holder {
            org,
            sub: key.id,
            kind: PrincipalKind::ApiKey,
            role,
            scopes,
            credential,
            expires_at: key.expires_at.map(Into::into),
            legacy: key.is_legacy.then_some(LegacyKey {
                networks: key.networks,
            }),
        })
    }
}

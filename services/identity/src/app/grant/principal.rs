//! A grant for a principal who is not there: an execution acts on behalf of who asked for it, with the right that they have
//! at that moment, and not with the one that they had.

use contract::grant::PrincipalKind;
use contract::identity::{PrincipalGrant, PrincipalGranted};
use contract::{Problem, ProblemKind};
use domain::{CredentialId, UserId};

use super::{CLOSED, Holder, ended, rights, role};
use crate::app::App;
use crate::error::IdentityError;
use crate::store;

/// The services that such a grant is for.
const AUDIENCE: [&str; 1] = ["action"];
/// How long it lives, in seconds: it is asked for when it is needed.
const LIFETIME_SECONDS: i64 = 60;

fn forbidden(detail: &str) -> IdentityError {
    Problem::new(ProblemKind::Forbidden, detail).into()
}

/// A credential that is not accepted is nobody's fault here: nobody shows one.
fn without_credential(error: IdentityError) -> IdentityError {
    match error {
        IdentityError::Refused(problem) if problem.kind == ProblemKind::Unauthenticated => {
            forbidden(&problem.detail)
        }
        other => other,
    }
}

impl App {
    /// What a person or an API key may do now, as a grant for the action service.
    ///
    /// # Errors
    /// FORBIDDEN, in words that say why there is no right any more; INVALID for another kind; UNAVAILABLE.
    pub async fn principal_grant(
        &self,
        request: &PrincipalGrant,
    ) -> Result<PrincipalGranted, IdentityError> {
        let holder = match request.kind {
            PrincipalKind::User => self.person_away(request).await?,
            PrincipalKind::ApiKey => self.key_away(request).await?,
            PrincipalKind::Service | PrincipalKind::Module => {
                return Err(Problem::invalid("kind", "must be USER or API_KEY").into());
            }
        };
        let granted = self.granted(holder, &AUDIENCE, LIFETIME_SECONDS)?;
        Ok(PrincipalGranted {
            grant: granted.grant,
            expires_at: granted.expires_at,
        })
    }

    /// A person, by the role that it has now. Whether the session lasts does not matter: what was begun goes on. What
    /// administrators of the platform have besides is for sessions alone.
    async fn person_away(&self, request: &PrincipalGrant) -> Result<Holder, IdentityError> {
        let (org, user) = (request.org, UserId(request.id));
        let member = store::member::standing(self.pools.system(), org, user)
            .await?
            .ok_or_else(|| forbidden("this person is no longer a member of the organisation"))?;
        if member.disabled {
            return Err(forbidden("this person's account is disabled"));
        }
        if member.closed {
            return Err(forbidden(CLOSED));
        }
        let role = role(&member.role)?;
        Ok(Holder {
            org,
            sub: user.0,
            kind: PrincipalKind::User,
            role,
            scopes: role.scopes(),
            credential: request.credential,
            expires_at: None,
            networks: None,
            legacy: false,
        })
    }

    /// A key, while it is good and never with more than its creator has. From where it is taken was looked at when it
    /// was used.
    async fn key_away(&self, request: &PrincipalGrant) -> Result<Holder, IdentityError> {
        let key = store::api_key::by_id(self.pools.system(), request.org, request.id)
            .await?
            .ok_or_else(|| forbidden("this API key is not known"))?;
        if let Some(reason) = ended(&key) {
            return Err(forbidden(reason));
        }
        if key.closed {
            return Err(forbidden(CLOSED));
        }
        if key.is_legacy {
            return Err(forbidden(
                "a key for agents of Dash-Fleet has no rights of its own",
            ));
        }
        let (role, scopes) = rights(&key).map_err(without_credential)?;
        Ok(Holder {
            org: request.org,
            sub: key.id,
            kind: PrincipalKind::ApiKey,
            role,
            scopes,
            credential: CredentialId(key.id),
            expires_at: key.expires_at.map(Into::into),
            networks: None,
            legacy: false,
        })
    }
}

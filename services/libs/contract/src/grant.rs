//! A grant: what a request may do, signed by identity (EdDSA JWT, at most five minutes). Law L4: the owning
//! service verifies it and takes the organisation from nowhere else.

use std::net::IpAddr;
use std::ops::Deref;

use domain::access::{Role, Scopes};
use domain::{CredentialId, OrgId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::problem::Problem;

/// The `iss` of every grant.
pub const ISSUER: &str = "dashfleet/identity";
/// The longest life of a grant, in seconds.
pub const LIFETIME_SECONDS: i64 = 300;
/// Clock difference between services that verification forgives, in seconds.
pub const LEEWAY_SECONDS: u64 = 5;

/// Who stands behind a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PrincipalKind {
    /// A person who logged in.
    User,
    /// An API key.
    ApiKey,
    /// A service acting for itself.
    Service,
    /// A module's code.
    Module,
}

/// The claims of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Issuer: [`ISSUER`].
    pub iss: String,
    /// The organisation: the only one that the request can touch.
    pub org: OrgId,
    /// The principal: a user's, key's, service's or module's id.
    pub sub: Uuid,
    /// What the principal is.
    pub kind: PrincipalKind,
    /// The principal's role.
    pub role: Role,
    /// What the principal may do; empty denies everything.
    pub scopes: Scopes,
    /// The services that it is for.
    pub aud: Vec<String>,
    /// The session or key that it was exchanged for, by which it is revoked.
    pub credential: CredentialId,
    /// Issued at, seconds since the epoch.
    pub iat: i64,
    /// Expires at, seconds since the epoch.
    pub exp: i64,
}

impl Grant {
    /// Refuses unless the grant has the scope.
    ///
    /// # Errors
    /// [`Problem`] FORBIDDEN that names the scope.
    pub fn require(&self, scope: &str) -> Result<(), Problem> {
        if self.scopes.allows(scope) {
            Ok(())
        } else {
            Err(Problem::missing_scope(scope))
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, as the gateway saw it; absent when a service asks for itself.
    pub address: Option<IpAddr>,
    /// The request's trace.
    pub trace_id: Option<String>,
}

/// Who makes a request: a verified grant, and where the request comes from. What it does is told by
/// [`Author::did`](crate::audit::AuditEntry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The grant.
    pub grant: Grant,
    /// The client's address, as the gateway saw it; absent when a service forwards the grant.
    pub address: Option<IpAddr>,
    /// The request's trace.
    pub trace_id: Option<String>,
}

impl Author {
    /// Where the request comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            address: self.address,
            trace_id: self.trace_id.clone(),
        }
    }
}

impl Deref for Author {
    type Target = Grant;
    fn deref(&self) -> &Grant {
        &self.grant
    }
}

/// One public signing key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Key type: `OKP`.
    pub kty: String,
    /// Curve: `Ed25519`.
    pub crv: String,
    /// The public key, base64url without padding.
    pub x: String,
    /// Key id.
    pub kid: String,
    /// Algorithm: `EdDSA`.
    pub alg: String,
    /// Use: `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// The public keys with which grants are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The active keys.
    pub keys: Vec<Jwk>,
}

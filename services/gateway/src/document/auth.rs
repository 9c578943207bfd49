//! Logging in and out, as the document shows it.

use contract::grant::{Jwk as JwkMessage, Jwks as JwksMessage};
use contract::identity as message;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use crate::json::Documented;

/// What a login or a refresh gives.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Tokens {
    /// `dfa_…`, for the `Authorization` header.
    access_token: String,
    /// `dfr_…`, for one refresh.
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: u32,
}

/// What stands behind a credential.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
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

/// What a member of an organisation may do, as a whole.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and acts on machines.
    Operator,
    /// Also manages machines, keys and members.
    Admin,
    /// Also manages the organisation itself.
    Owner,
}

/// Who a credential speaks for.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Principal {
    /// The user's or key's id.
    id: Uuid,
    kind: PrincipalKind,
    /// The person's address; absent for a key.
    email: Option<String>,
    /// The person's or key's name.
    name: String,
    /// The organisation.
    organization_id: Uuid,
    /// The organisation's name.
    organization_name: String,
    role: Role,
    /// What it may do, as `resource:verb`.
    scopes: Vec<String>,
}

/// A public key (RFC 8037).
#[derive(Object)]
pub struct Jwk {
    /// Key type.
    kty: String,
    /// Curve.
    crv: String,
    /// The public key, base64url without padding.
    x: String,
    /// Key id.
    kid: String,
    /// Algorithm.
    alg: String,
    /// Use.
    #[oai(rename = "use")]
    usage: String,
}

/// The public keys with which grants are verified.
#[derive(Object)]
pub struct Jwks {
    /// The active keys.
    keys: Vec<Jwk>,
}

impl Documented for message::Tokens {
    type Schema = Tokens;
}

impl Documented for message::Principal {
    type Schema = Principal;
}

impl Documented for JwkMessage {
    type Schema = Jwk;
}

impl Documented for JwksMessage {
    type Schema = Jwks;
}

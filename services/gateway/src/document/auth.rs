//! Logging in and out, as the document shows it.

use chrono::{DateTime, Utc};
use contract::grant::{Jwk as JwkMessage, Jwks as JwksMessage};
use contract::identity as message;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use crate::json::Documented;

/// Another organisation that the person belongs to.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Switch {
    /// Where to.
    organization_id: Uuid,
}

/// A session.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Session {
    /// Its id.
    id: Uuid,
    /// The organisation that it is in.
    organization_id: Uuid,
    /// The network address that it began from; of an IPv6 address its /64.
    address: Option<String>,
    /// What the client said it is.
    user_agent: Option<String>,
    /// When it began.
    created_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    last_used_at: Option<DateTime<Utc>>,
    /// When it ends unless it is refreshed before.
    expires_at: DateTime<Utc>,
    /// Whether it is the one that asks.
    current: bool,
}

/// A page of sessions, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct SessionPage {
    /// The sessions.
    items: Vec<Session>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A new password, by somebody who knows the old one.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct PasswordChange {
    /// The password until now.
    #[oai(validator(min_length = 1, max_length = 1024))]
    current_password: String,
    /// The password from now on: at least 12 bytes, none of the commonest, not the person's own name or address.
    #[oai(validator(min_length = 1, max_length = 1024))]
    new_password: String,
}

/// Whose password is forgotten.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct PasswordForgotten {
    /// The person's address.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: String,
}

/// A new password, by a link.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct PasswordReset {
    /// What is behind `#` in the link: `dfp_…`.
    #[oai(validator(min_length = 1, max_length = 512))]
    token: String,
    /// The password from now on: at least 12 bytes, none of the commonest, not the person's own name or address.
    #[oai(validator(min_length = 1, max_length = 1024))]
    password: String,
}

/// An invitation is taken.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct InvitationAcceptance {
    /// What is behind `#` in the link: `dfi_…`.
    #[oai(validator(min_length = 1, max_length = 512))]
    token: String,
    /// The name of a new person; the address without its host when absent.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    /// Of a new person the password that is chosen, by the same rules as a new password; of one who has an account its password.
    #[oai(validator(min_length = 1, max_length = 1024))]
    password: String,
}

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

impl Documented for message::Switch {
    type Schema = Switch;
}

impl Documented for message::SessionPage {
    type Schema = SessionPage;
}

impl Documented for message::PasswordChange {
    type Schema = PasswordChange;
}

impl Documented for message::PasswordForgot {
    type Schema = PasswordForgotten;
}

impl Documented for message::PasswordReset {
    type Schema = PasswordReset;
}

impl Documented for message::InvitationAccept {
    type Schema = InvitationAcceptance;
}

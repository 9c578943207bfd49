//! People's sessions and passwords, credentials for grants, and grants for those who are away.

use domain::access::{Role, Scopes};
use domain::{CredentialId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::grant::PrincipalKind;

/// `auth.login`
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The person's address.
    pub email: String,
    /// The person's password.
    pub password: String,
    /// Where to; the organisation that was joined first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrgId>,
    /// The network address that asks, for back-off and for the list of sessions.
    #[serde(default)]
    pub address: String,
    /// What the client says it is, for the list of sessions.
    #[serde(default)]
    pub user_agent: String,
}

/// What a login or a refresh gives.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// `dfa_…`, for the `Authorization` header.
    pub access_token: String,
    /// `dfr_…`, for one refresh.
    pub refresh_token: String,
    /// Seconds until the access token expires.
    pub expires_in: u32,
}

/// `auth.refresh`: each refresh token works once. For half a minute the same question gets the same answer, which may
/// have been lost; later it ends the session.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// `dfr_…`
    pub refresh_token: String,
}

/// `auth.logout`: ends the session of the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logout {}

/// `auth.me`: who the grant speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Me {}

/// The principal of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The user's or key's id.
    pub id: Uuid,
    /// What it is.
    pub kind: PrincipalKind,
    /// The person's address; absent for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The person's or key's name.
    pub name: String,
    /// The organisation.
    pub organization_id: OrgId,
    /// The organisation's name.
    pub organization_name: String,
    /// The role there.
    pub role: Role,
    /// What it may do.
    pub scopes: Scopes,
}

/// `auth.switch`: a new session of the same person in another organisation. The present one goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Switch {
    /// Where to.
    pub organization_id: OrgId,
    /// The network address that asks, for back-off and for the list of sessions.
    #[serde(default)]
    pub address: String,
    /// What the client says it is, for the list of sessions.
    #[serde(default)]
    pub user_agent: String,
}

/// `auth.sessions`: a person's own sessions, in all organisations, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionList {
    /// At most so many.
    pub limit: u32,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPage {
    /// The sessions.
    pub items: Vec<Session>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id.
    pub id: CredentialId,
    /// The organisation that it is in.
    pub organization_id: OrgId,
    /// The network address that it began from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What the client said it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// When it ends unless it is refreshed before.
    pub expires_at: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// `auth.revoke`: ends one of the person's own sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRevoke {
    /// The session.
    pub session_id: CredentialId,
}

/// `auth.password`: a new password. The person's other sessions end.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChange {
    /// The password until now.
    pub current_password: String,
    /// The password from now on.
    pub new_password: String,
}

/// `auth.forgot`: a link to set a new password is mailed, if there is such a person. The answer is the same if there is
/// none, and comes after the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordForgot {
    /// The person's address.
    pub email: String,
    /// The network address that asks, for back-off.
    #[serde(default)]
    pub address: String,
}

/// `auth.reset`: a new password, by a link. All of the person's sessions end. The link works once.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordReset {
    /// `dfp_…`, from the link.
    pub token: String,
    /// The password from now on.
    pub password: String,
}

/// `auth.accept`: an invited person joins. A new one chooses name and password; one who has an account gives the password
/// of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitationAccept {
    /// `dfi_…`, from the link.
    pub token: String,
    /// The name of a new person; the address without its host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The password: the one that is chosen, or the one that the account has.
    pub password: String,
    /// The network address that asks, for back-off and for the list of sessions.
    #[serde(default)]
    pub address: String,
    /// What the client says it is, for the list of sessions.
    #[serde(default)]
    pub user_agent: String,
}

/// `grant.exchange`: a credential (`dfa_…`, `dfk_…` or `dfl_…`) for a grant. The gateway caches it by the credential's hash.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The credential as it was presented.
    pub credential: String,
}

/// A grant, and how long to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchanged {
    /// The signed token.
    pub grant: String,
    /// What it was exchanged for; a revocation names it.
    pub credential: CredentialId,
    /// The organisation.
    pub org: OrgId,
    /// When the grant expires.
    pub expires_at: Timestamp,
    /// Where a key is taken from, such as `10.0.0.0/8`; from everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Whether the credential is a legacy key.
    #[serde(default)]
    pub legacy: bool,
}

/// `principal.grant`: the scheduler asks with which right a principal acts now, who began something that goes on without
/// it: nobody shows a credential. FORBIDDEN when it has none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalGrant {
    /// The organisation.
    pub org: OrgId,
    /// What it is: a person or an API key; there are no others so far.
    pub kind: PrincipalKind,
    /// The person's or the key's id.
    pub id: Uuid,
    /// The session or key by which it was begun; the grant names it. A session may have ended since.
    pub credential: CredentialId,
}

/// What a principal may do now, for a minute at most, at the action service alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalGranted {
    /// The signed token, to be forwarded.
    pub grant: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

//! Calls that identity answers. Messages about people and credentials are by noun in the rooms below: [`auth`],
//! [`organization`], [`member`], [`key`], [`token`]; those about machines are here.

pub mod auth;
pub mod key;
pub mod member;
pub mod organization;
pub mod token;

use domain::labels::{LabelEdits, Labels};
use domain::{DeploymentId, MachineId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::auth::{
    Exchange, Exchanged, InvitationAccept, Login, Logout, Me, PasswordChange, PasswordForgot,
    PasswordReset, Principal, PrincipalGrant, PrincipalGranted, Refresh, Session, SessionList,
    SessionPage, SessionRevoke, Switch, Tokens,
};
pub use self::key::{
    ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyPage,
    ApiKeyRevoke, KeyKind,
};
pub use self::member::{
    Invitation, InvitationCancel, InvitationList, InvitationPage, Invited, Member, MemberEdit,
    MemberGet, MemberInvite, MemberList, MemberPage, MemberRemove, MemberReset, OneTimeLink,
};
pub use self::organization::{
    Organization, OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet,
    OrganizationList, OrganizationPage,
};
pub use self::token::{
    EnrollmentToken, EnrollmentTokenCreate, EnrollmentTokenCreated, EnrollmentTokenGet,
    EnrollmentTokenList, EnrollmentTokenPage, EnrollmentTokenRevoke,
};
use crate::agent::Inventory;
use crate::grant::Jwks;
use crate::legacy::LegacyBinding;
use crate::merge::Edit;
use crate::metrics::Transport;

/// The service's name on the bus.
pub const SERVICE: &str = "identity";

/// Nothing to say beyond "done".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// `jwks.get`: the keys with which grants are verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JwksGet {}

/// `enrollment.challenge`: what the agent must sign.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {}

/// A challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenged {
    /// Opaque text; comes back in `enrollment.complete`.
    pub challenge: String,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// Fingerprints of the keys that sign orders, the current one first: whoever expects another one finds out before its
    /// token is used. Empty while nobody has said them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_keys: Vec<String>,
}

/// `enrollment.complete`: token, key, and the proof that the machine holds the key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enroll {
    /// `dfe_…`
    pub token: String,
    /// The challenge that was signed.
    pub challenge: String,
    /// The machine's public key (nkey text, `U…`).
    pub public_key: String,
    /// Base64 of the signature by that key over [`enrollment_message`].
    pub signature: String,
    /// The machine's name.
    pub hostname: String,
    /// What the machine is.
    #[serde(default)]
    pub inventory: Inventory,
    /// Labels that the machine asks for. Those of the token win over them; and they count once: enrolling again changes
    /// no labels.
    #[serde(default)]
    pub labels: Labels,
}

/// What is signed at enrolment: `"dashfleet/enroll/1\0" ‖ challenge ‖ SHA-256(token) ‖ public key`.
#[must_use]
pub fn enrollment_message(challenge: &str, token: &str, public_key: &str) -> Vec<u8> {
    use sha2::Digest;
    let mut message = b"dashfleet/enroll/1\0".to_vec();
    message.extend_from_slice(challenge.as_bytes());
    message.extend_from_slice(&sha2::Sha256::digest(token.as_bytes()));
    message.extend_from_slice(public_key.as_bytes());
    message
}

/// A machine's place in the fleet, and what it needs to take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// The organisation.
    pub organization_id: OrgId,
    /// The machine.
    pub machine_id: MachineId,
    /// The installation.
    pub deployment_id: DeploymentId,
    /// Where the bus is, in the order to try.
    pub nats_urls: Vec<String>,
    /// PEM of the authority that signs the bus' certificate; absent where the system's are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_ca: Option<String>,
    /// The keys whose orders the agent obeys.
    pub action_keys: Vec<String>,
}

/// `enrollment.standing`: a machine whose key the bus refuses asks why. It proves that it holds the key, so nobody
/// learns anything about another's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandingGet {
    /// The challenge that was signed.
    pub challenge: String,
    /// The machine's public key (nkey text, `U…`).
    pub public_key: String,
    /// Base64 of the signature by that key over [`standing_message`].
    pub signature: String,
}

/// What is signed to ask for one's standing: `"dashfleet/standing/1\0" ‖ challenge ‖ public key`.
#[must_use]
pub fn standing_message(challenge: &str, public_key: &str) -> Vec<u8> {
    [
        b"dashfleet/standing/1\0",
        challenge.as_bytes(),
        public_key.as_bytes(),
    ]
    .concat()
}

/// What a key is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyStanding {
    /// A machine's.
    Enrolled,
    /// A machine's that is not trusted for now.
    Quarantined,
    /// Never accepted again.
    Revoked,
    /// Nobody's.
    Unknown,
}

/// The answer to `enrollment.standing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// What the key is worth.
    pub standing: KeyStanding,
}

/// `machine.edit`: what an operator says of a machine. The same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineEdit {
    /// The machine.
    pub machine_id: MachineId,
    /// What becomes of it.
    pub edits: MachineEdits,
}

/// A merge patch of what an operator says of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineEdits {
    /// The name that people see instead of the host's.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub display_name: Edit<String>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub notes: Edit<String>,
    /// Labels: those that are named are set or, with `null`, taken away. `null` instead takes all away.
    #[serde(default, skip_serializing_if = "Edit::is_keep")]
    pub labels: Edit<LabelEdits>,
}

/// A machine as it is after an edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineEdited {
    /// Its change number: who mirrors it has seen the edit when it has seen this.
    pub change: i64,
}

/// `machine.label`: edits the labels of many machines, of all or of none. They are listed, or a selector chooses among
/// those that are not revoked; exactly one of the two. The same again does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineLabel {
    /// The machines, at most [`domain::machine::LABEL_MANY_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_ids: Option<Vec<MachineId>>,
    /// `env=prod,role!=db`; by the labels as they are at the commit. It may choose as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Labels to set or, with `null`, to take away. Others stay.
    pub labels: LabelEdits,
}

/// The machines that were meant, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineLabelled {
    /// The machines.
    pub items: Vec<LabelledMachine>,
}

/// A machine after its labels were edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelledMachine {
    /// The machine.
    pub machine_id: MachineId,
    /// Its change number, when its labels are others than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<i64>,
}

/// `machine.revoke`: its key is never accepted again; history stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRevoke {
    /// The machine.
    pub machine_id: MachineId,
}

/// `machine.release`: an operator trusts a quarantined machine again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRelease {
    /// The machine.
    pub machine_id: MachineId,
    /// By what it is known from now on.
    #[serde(default)]
    pub accept: ReleaseAccept,
}

/// By what a machine over HTTP is known after its release. Others have their key, whatever is said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReleaseAccept {
    /// By what it was known before: what quarantined it was somebody else.
    #[default]
    Known,
    /// By what quarantined it: it has moved, or has another key.
    New,
}

/// `machine.quarantine`: action saw what a copy would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineQuarantine {
    /// The organisation.
    pub org: OrgId,
    /// The machine.
    pub machine_id: MachineId,
    /// What was seen, for the operator.
    pub reason: String,
}

/// `machine.changes`: the machines as they are now, of those that changed after a cursor, in the order of commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineChanges {
    /// The last change seen; 0 for all.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// A page of changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineChangesPage {
    /// The machines, oldest change first.
    pub items: Vec<MachineRecord>,
    /// Whether there is more.
    pub more: bool,
}

/// A machine as identity knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    /// Its change number; grows in the order of commit.
    pub change: i64,
    /// The organisation.
    pub org: OrgId,
    /// The machine.
    pub machine_id: MachineId,
    /// Its name, as it said it.
    pub hostname: String,
    /// The name that an operator gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// An operator's notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// How it reaches us.
    #[serde(default)]
    pub transport: Transport,
    /// Its public key; empty for a machine over HTTP.
    pub public_key: String,
    /// What a machine over HTTP is known by; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyBinding>,
    /// Its labels: those of its enrolment, and what operators made of them.
    pub labels: Labels,
    /// Inventory given at enrolment.
    pub inventory: Inventory,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When it was quarantined; absent when it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined_at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_reason: Option<String>,
    /// How often it was released: a release clears what quarantined it before.
    pub releases: i32,
}

/// `actionkeys.get`: what the keys that sign orders look like, for people who compare. Open: it is on every machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionKeysGet {}

/// Fingerprints of the keys that sign orders, the current one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionKeyFingerprints {
    /// SHA-256 of each key's nkey text, hexadecimal.
    pub fingerprints: Vec<String>,
}

/// `actionkeys.put`: action says which keys sign orders, the current one first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionKeysPut {
    /// Public keys, nkey text.
    pub keys: Vec<String>,
}

/// What action needs to know to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The installation.
    pub deployment_id: DeploymentId,
}

crate::call!(Login => Tokens: "identity", "auth", "login", Gateway, idempotent: false);
crate::call!(Refresh => Tokens: "identity", "auth", "refresh", Gateway, idempotent: false);
crate::call!(Logout => Done: "identity", "auth", "logout", Gateway, idempotent: true);
crate::call!(Me => Principal: "identity", "auth", "me", Gateway, idempotent: true);
crate::call!(Switch => Tokens: "identity", "auth", "switch", Gateway, idempotent: false);
crate::call!(SessionList => SessionPage: "identity", "auth", "sessions", Gateway, idempotent: true);
crate::call!(SessionRevoke => Done: "identity", "auth", "revoke", Gateway, idempotent: true);
crate::call!(PasswordChange => Done: "identity", "auth", "password", Gateway, idempotent: false);
crate::call!(PasswordForgot => Done: "identity", "auth", "forgot", Gateway, idempotent: true);
crate::call!(PasswordReset => Done: "identity", "auth", "reset", Gateway, idempotent: false);
crate::call!(InvitationAccept => Tokens: "identity", "auth", "accept", Gateway, idempotent: false);
crate::call!(OrganizationList => OrganizationPage: "identity", "organization", "list", Gateway, idempotent: true);
crate::call!(OrganizationGet => Organization: "identity", "organization", "get", Gateway, idempotent: true);
crate::call!(OrganizationCreate => Organization: "identity", "organization", "create", Gateway, idempotent: false);
crate::call!(OrganizationEdit => Organization: "identity", "organization", "edit", Gateway, idempotent: true);
crate::call!(OrganizationClose => Organization: "identity", "organization", "close", Gateway, idempotent: true);
crate::call!(MemberList => MemberPage: "identity", "member", "list", Gateway, idempotent: true);
crate::call!(MemberGet => Member: "identity", "member", "get", Gateway, idempotent: true);
crate::call!(MemberInvite => Invited: "identity", "member", "invite", Gateway, idempotent: true);
crate::call!(MemberEdit => Member: "identity", "member", "edit", Gateway, idempotent: true);
crate::call!(MemberRemove => Done: "identity", "member", "remove", Gateway, idempotent: true);
crate::call!(MemberReset => OneTimeLink: "identity", "member", "reset", Gateway, idempotent: true);
crate::call!(InvitationList => InvitationPage: "identity", "member", "invitations", Gateway, idempotent: true);
crate::call!(InvitationCancel => Done: "identity", "member", "cancel", Gateway, idempotent: true);
crate::call!(ApiKeyList => ApiKeyPage: "identity", "key", "list", Gateway, idempotent: true);
crate::call!(ApiKeyGet => ApiKey: "identity", "key", "get", Gateway, idempotent: true);
crate::call!(ApiKeyCreate => ApiKeyCreated: "identity", "key", "create", Gateway, idempotent: false);
crate::call!(ApiKeyEdit => ApiKey: "identity", "key", "edit", Gateway, idempotent: true);
crate::call!(ApiKeyRevoke => Done: "identity", "key", "revoke", Gateway, idempotent: true);
crate::call!(EnrollmentTokenList => EnrollmentTokenPage: "identity", "token", "list", Gateway, idempotent: true);
crate::call!(EnrollmentTokenGet => EnrollmentToken: "identity", "token", "get", Gateway, idempotent: true);
crate::call!(EnrollmentTokenCreate => EnrollmentTokenCreated: "identity", "token", "create", Gateway, idempotent: false);
crate::call!(EnrollmentTokenRevoke => Done: "identity", "token", "revoke", Gateway, idempotent: true);
crate::call!(Exchange => Exchanged: "identity", "grant", "exchange", Gateway, idempotent: true);
crate::call!(PrincipalGrant => PrincipalGranted: "identity", "principal", "grant", Services, idempotent: true);
crate::call!(JwksGet => Jwks: "identity", "jwks", "get", Both, idempotent: true);
crate::call!(Challenge => Challenged: "identity", "enrollment", "challenge", Gateway, idempotent: true);
crate::call!(Enroll => Enrolled: "identity", "enrollment", "complete", Gateway, idempotent: true);
crate::call!(StandingGet => Standing: "identity", "enrollment", "standing", Gateway, idempotent: true);
crate::call!(MachineEdit => MachineEdited: "identity", "machine", "edit", Gateway, idempotent: true);
crate::call!(MachineLabel => MachineLabelled: "identity", "machine", "label", Gateway, idempotent: true);
crate::call!(MachineRevoke => Done: "identity", "machine", "revoke", Gateway, idempotent: true);
crate::call!(MachineRelease => Done: "identity", "machine", "release", Gateway, idempotent: true);
crate::call!(MachineQuarantine => Done: "identity", "machine", "quarantine", Services, idempotent: true);
crate::call!(MachineChanges => MachineChangesPage: "identity", "machine", "changes", Services, idempotent: true);
crate::call!(ActionKeysGet => ActionKeyFingerprints: "identity", "actionkeys", "get", Gateway, idempotent: true);
crate::call!(ActionKeysPut => Deployment: "identity", "actionkeys", "put", Services, idempotent: true);

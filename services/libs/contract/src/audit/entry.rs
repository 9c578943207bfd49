//! An entry: who did what with which right, from where, and what was before and after.

use std::net::IpAddr;

use domain::{CredentialId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::grant::{Author, Origin, PrincipalKind};

/// The most bytes of `before` and of `after`.
pub const SNAPSHOT_MAX_BYTES: usize = 16 * 1024;
/// The longest other text, in characters.
pub const TEXT_MAX_CHARS: usize = 500;

/// What stands for a secret that somebody put into a snapshot.
const HIDDEN: &str = "[hidden]";
/// How credentials and links of the house, grants, password hashes and private keys begin, wherever in a text they stand.
const SECRET_PREFIXES: [&str; 10] = [
    "dfa_",
    "dfr_",
    "dfk_",
    "dfl_",
    "dfe_",
    "dfi_",
    "dfp_",
    "eyJhbGciOi",
    "$argon2",
    "-----BEGIN",
];
/// How long the seed of an nkey is: `S`, and Base32 from there on.
const SEED_CHARS: usize = 58;
/// How fields end that hold secrets whatever is in them.
const SECRET_FIELDS: [&str; 10] = [
    "password",
    "passphrase",
    "secret",
    "hash",
    "seed",
    "token",
    "privatekey",
    "apikey",
    "authorization",
    "cookie",
];

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActorKind {
    /// A person.
    User,
    /// An API key.
    ApiKey,
    /// A service, by itself.
    Service,
    /// A module's code.
    Module,
    /// A machine.
    Machine,
}

impl ActorKind {
    /// The name as it is stored and sent: `API_KEY`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::ApiKey => "API_KEY",
            Self::Service => "SERVICE",
            Self::Module => "MODULE",
            Self::Machine => "MACHINE",
        }
    }
}

impl std::str::FromStr for ActorKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Self::User,
            Self::ApiKey,
            Self::Service,
            Self::Module,
            Self::Machine,
        ];
        all.into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind of actor `{text}`"))
    }
}

impl From<PrincipalKind> for ActorKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::User => Self::User,
            PrincipalKind::ApiKey => Self::ApiKey,
            PrincipalKind::Service => Self::Service,
            PrincipalKind::Module => Self::Module,
        }
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Its id; absent for a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its name at that time: identity says it of people and keys, which others know by id only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Actor {
    /// A service that acts by itself.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self {
            kind: ActorKind::Service,
            id: None,
            name: Some(name.to_owned()),
        }
    }

    /// A principal or a machine, by its id.
    #[must_use]
    pub fn of(kind: ActorKind, id: Uuid) -> Self {
        Self {
            kind,
            id: Some(id),
            name: None,
        }
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What kind of thing, such as `machine`.
    pub kind: String,
    /// Its id, when it is one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Resource {
    /// One thing.
    pub fn of(kind: &str, id: impl std::fmt::Display) -> Self {
        Self {
            id: Some(id.to_string()),
            ..Self::kind(kind)
        }
    }

    /// Things of a kind, none of them in particular.
    #[must_use]
    pub fn kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            id: None,
            name: None,
        }
    }

    /// The same with its name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditOutcome {
    /// It was done.
    Succeeded,
    /// It was refused, for want of a right.
    Denied,
}

impl AuditOutcome {
    /// The name as it is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Denied => "DENIED",
        }
    }
}

impl std::str::FromStr for AuditOutcome {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Succeeded, Self::Denied]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| format!("unknown outcome `{text}`"))
    }
}

/// What somebody did, or was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its id, the same in every repetition.
    pub id: Uuid,
    /// The organisation.
    pub org: OrgId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// With which session, key or enrolment token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// From where, as the gateway saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What: `machine.revoke`.
    pub call: String,
    /// To what.
    pub resource: Resource,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why it was refused, or done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was before; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is since; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// How many things, or how often.
    pub count: u32,
    /// The trace of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl AuditEntry {
    /// Something that was done now.
    #[must_use]
    pub fn new(org: OrgId, actor: Actor, call: &str, resource: Resource) -> Self {
        Self {
            id: Uuid::now_v7(),
            org,
            at: Timestamp::now(),
            actor,
            credential: None,
            address: None,
            call: call.to_owned(),
            resource,
            outcome: AuditOutcome::Succeeded,
            reason: None,
            before: None,
            after: None,
            count: 1,
            trace_id: None,
        }
    }

    /// With what was before: secrets are taken out, and what is too large is only measured.
    #[must_use]
    pub fn before(mut self, snapshot: Value) -> Self {
        self.before = Some(kept(snapshot));
        self
    }

    /// With what is since, likewise.
    #[must_use]
    pub fn after(mut self, snapshot: Value) -> Self {
        self.after = Some(kept(snapshot));
        self
    }

    /// Done so many times, or to so many things.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = u32::try_from(count).unwrap_or(u32::MAX);
        self
    }

    /// For this reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Refused for this reason.
    #[must_use]
    pub fn denied(mut self, reason: impl Into<String>) -> Self {
        self.outcome = AuditOutcome::Denied;
        self.because(reason)
    }

    /// With this session, key or token.
    #[must_use]
    pub fn with(mut self, credential: impl Into<CredentialId>) -> Self {
        self.credential = Some(credential.into());
        self
    }

    /// Asked from there.
    #[must_use]
    pub fn asked(mut self, origin: &Origin) -> Self {
        self.address = origin.address;
        self.trace_id.clone_from(&origin.trace_id);
        self
    }

    /// The entry as it lies in an outbox: its id, its organisation, and the whole of it, tidy, as JSON.
    ///
    /// # Errors
    /// [`serde_json::Error`]; there is no known case.
    pub fn stored(self) -> Result<(Uuid, OrgId, String), serde_json::Error> {
        let tidy = self.tidy();
        let text = serde_json::to_string(&tidy)?;
        Ok((tidy.id, tidy.org, text))
    }

    /// The entry as it may be stored, whoever made it: no text is too long or has a character that a database does not
    /// take, and nothing in a text or a snapshot looks like a secret.
    #[must_use]
    pub fn tidy(mut self) -> Self {
        for text in [
            Some(&mut self.call),
            Some(&mut self.resource.kind),
            self.resource.id.as_mut(),
            self.resource.name.as_mut(),
            self.actor.name.as_mut(),
            self.reason.as_mut(),
            self.trace_id.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            shorten(text);
        }
        self.before = self.before.map(kept);
        self.after = self.after.map(kept);
        self.count = self.count.max(1);
        self
    }
}

impl Author {
    /// What this author did now.
    #[must_use]
    pub fn did(&self, call: &str, resource: Resource) -> AuditEntry {
        let actor = Actor::of(self.grant.kind.into(), self.grant.sub);
        AuditEntry::new(self.grant.org, actor, call, resource)
            .with(self.grant.credential)
            .asked(&self.origin())
    }
}

fn shorten(text: &mut String) {
    if is_secret(text) {
        HIDDEN.clone_into(text);
    }
    if text.chars().count() > TEXT_MAX_CHARS || text.chars().any(char::is_control) {
        *text = text
            .chars()
            .filter(|c| !c.is_control())
            .take(TEXT_MAX_CHARS)
            .collect();
    }
}

/// A snapshot as it may be kept.
fn kept(mut snapshot: Value) -> Value {
    hide(&mut snapshot);
    let bytes = snapshot.to_string().len();
    if bytes > SNAPSHOT_MAX_BYTES {
        return json!({ "omitted": bytes });
    }
    snapshot
}

/// Whether a text has something in it that opens something, or looks like it.
fn is_secret(text: &str) -> bool {
    let base32 = |byte: u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    SECRET_PREFIXES.iter().any(|prefix| text.contains(prefix))
        || words.any(|word| {
            word.len() == SEED_CHARS && word.starts_with('S') && word.bytes().all(base32)
        })
}

/// Whoever makes a snapshot leaves secrets out; this is for the one who forgot.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            if is_secret(text) {
                HIDDEN.clone_into(text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.to_lowercase().replace(['_', '-'], "");
                let secret = SECRET_FIELDS.iter().any(|end| name.ends_with(end));
                if secret && !field.is_null() && !field.is_boolean() {
                    *field = HIDDEN.into();
                } else {
                    hide(field);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AuditEntry {
        AuditEntry::new(
            OrgId::new(),
            Actor::service("test"),
            "key.create",
            Resource::kind("api-key"),
        )
    }

    #[test]
    fn no_secret_stays_in_a_snapshot() {
        let after = json!({
            "name": "ci", "password": "hunter2", "newPassword": "hunter3", "secretHash": [1, 2], "refreshToken": "x",
            "private_key": "y", "deep": [{ "note": "use dfk_0123456789abcdefghijklmnop here" }],
            "phc": "$argon2id$v=19$m=1", "pem": "-----BEGIN PRIVATE KEY-----", "tokenId": "stays", "hasPassword": true,
        });
        let text =
            serde_json::to_string(&entry().after(after.clone()).before(after)).expect("JSON");
        for secret in [
            "hunter", "dfk_", "argon2", "BEGIN", "\"x\"", "\"y\"", "[1,2]",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(
            text.contains("stays")
                && text.contains("\"ci\"")
                && text.contains("\"hasPassword\":true")
        );
    }

    #[test]
    fn no_secret_stays_in_a_text_either_and_links_and_seeds_are_secrets_too() {
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let public = nkeys::KeyPair::new_user().public_key();
        for secret in [
            "https://fleet.example.org/invitation#dfi_0123456789abcdefghijklmnop",
            "/password-reset#dfp_0123456789abcdefghijklmnop",
            "Bearer eyJhbGciOiJFZERTQSJ9.e30.x",
            &format!("key={seed};"),
        ] {
            let mut told = entry().because(secret).after(json!({ "note": secret }));
            told.resource = told.resource.named(secret);
            let (_, _, text) = told.stored().expect("JSON");
            assert!(!text.contains(secret), "{text}");
            assert_eq!(text.matches(HIDDEN).count(), 3, "{text}");
        }
        let harmless = json!({ "publicKey": public, "name": "DFK", "apiKey": null });
        assert_eq!(entry().after(harmless.clone()).after, Some(harmless));
        let named = json!({ "apiKey": "x", "passphrase": "x", "setCookie": "x" });
        let told = entry().before(named).before.expect("a snapshot");
        assert_eq!(
            told,
            json!({ "apiKey": HIDDEN, "passphrase": HIDDEN, "setCookie": HIDDEN })
        );
    }

    #[test]
    fn a_snapshot_that_is_too_large_is_measured_instead() {
        let large = entry().after(json!({ "text": "x".repeat(SNAPSHOT_MAX_BYTES) }));
        assert_eq!(
            large.after,
            Some(json!({ "omitted": SNAPSHOT_MAX_BYTES + 11 }))
        );
    }

    #[test]
    fn a_tidy_entry_is_short_and_has_no_control_characters() {
        let mut long = entry().denied("no\0thing".repeat(1_000));
        long.count = 0;
        let tidy = long.tidy();
        let reason = tidy.reason.expect("a reason");
        assert_eq!(reason.chars().count(), TEXT_MAX_CHARS);
        assert!(!reason.contains('\0'));
        assert_eq!(tidy.count, 1);
    }
}

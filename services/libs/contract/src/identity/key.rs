//! API keys, and those of Dash-Fleet's agents and scripts.

use domain::access::Role;
use domain::{CredentialId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyKind {
    /// The API.
    #[default]
    Api,
    /// The routes of Dash-Fleet, and nothing else.
    Legacy,
}

/// `key.list`: the newest first; revoked ones too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyList {
    /// At most so many.
    pub limit: u32,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyPage {
    /// The keys.
    pub items: Vec<ApiKey>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `key.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyGet {
    /// The key.
    pub key_id: CredentialId,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Its id.
    pub id: CredentialId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: KeyKind,
    /// The most that it can; absent for a legacy key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What of that it has; all of it when absent, nothing when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Where it is taken from, such as `10.0.0.0/8`; from everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// How many machines may be bound to it; of a legacy key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_cap: Option<u32>,
    /// When it expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who made it: it never has more than that person has now. Absent for one of the bootstrap job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// `key.create`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCreate {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub kind: KeyKind,
    /// The most that it can; absent for a legacy key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What of that it has; all of it when absent, nothing when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Where it is taken from, such as `10.0.0.0/8`; from everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// How many machines may be bound to it; of a legacy key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_cap: Option<u32>,
    /// When it expires; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// By it a repetition is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A new key, with its secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCreated {
    /// The key.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// `dfk_…` or `dfl_…`, shown this once.
    pub key: String,
}

/// `key.edit`: the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyEdit {
    /// The key.
    pub key_id: CredentialId,
    /// Its new name.
    pub name: String,
}

/// `key.revoke`: never accepted again. Again, it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyRevoke {
    /// The key.
    pub key_id: CredentialId,
}

//! Enrolment tokens.

use domain::Timestamp;
use domain::labels::Labels;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `token.list`: the newest first; used up, expired and revoked ones too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenList {
    /// At most so many.
    pub limit: u32,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenPage {
    /// The tokens.
    pub items: Vec<EnrollmentToken>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `token.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenGet {
    /// The token.
    pub token_id: Uuid,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentToken {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What its machines are labelled with, whatever they ask for.
    pub labels: Labels,
    /// How many machines may enrol with it.
    pub uses: u32,
    /// How many still may.
    pub uses_left: u32,
    /// How many may in an hour; absent: as many as it has uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cap: Option<u32>,
    /// The person or key that made it; absent for one of the bootstrap job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// `token.create`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenCreate {
    /// Its name.
    pub name: String,
    /// What its machines are labelled with, whatever they ask for.
    #[serde(default)]
    pub labels: Labels,
    /// How many machines may enrol with it; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How many may in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cap: Option<u32>,
    /// When it expires; in thirty days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// By it a repetition is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A new token, with its secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenCreated {
    /// The token.
    #[serde(flatten)]
    pub enrollment_token: EnrollmentToken,
    /// `dfe_…`, shown this once.
    pub token: String,
}

/// `token.revoke`: no machine enrols with it any more; those that did stay. Again, it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentTokenRevoke {
    /// The token.
    pub token_id: Uuid,
}

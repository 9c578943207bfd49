//! Events: terminal and configuration changes, at least once, ordered per aggregate by `version`.

use domain::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of the form of an event.
pub const VERSION: u32 = 1;

/// What happened to one thing. Consumers drop an event whose `version` is not above the one that they saw from the
/// same publisher. Of a machine two services tell, each with versions of its own: identity (`enrolled`, `edited`,
/// `revoked`, `quarantined`, `released`) and metrics (`online`, `offline`, `inventory-changed`); the verb says which of them spoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Id of the event, the same in every repetition.
    pub id: Uuid,
    /// The organisation.
    pub org: OrgId,
    /// What kind of thing, such as `machine`.
    pub noun: String,
    /// What happened, such as `enrolled`.
    pub verb: String,
    /// The thing.
    pub subject_id: Uuid,
    /// Grows with each event of the thing from one publisher; versions of different publishers cannot be compared.
    pub version: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// What else there is to know; no secrets.
    pub data: serde_json::Value,
}

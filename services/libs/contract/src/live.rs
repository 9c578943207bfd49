//! Live messages for those who look on now: lossy by intent, never the only copy of a fact.

use serde::{Deserialize, Serialize};

/// Something changed that a page may be showing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// What kind of thing, such as `action`.
    pub noun: String,
    /// The thing as the API shows it, in whole or in part.
    pub data: serde_json::Value,
}

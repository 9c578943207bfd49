//! What the gateway's replicas tell each other of the rates that they keep together: each says what it took lately, and the
//! others take it from their own. Lossy by intent: a message that is lost lets a little more through, once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The subject. The gateway alone says and hears it.
pub const SUBJECT: &str = "df.gateway.rate";
/// Version of the message.
pub const VERSION: u32 = 1;

/// What one replica took since it said so last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateTaken {
    /// The replica, by a random id of its process: nobody counts what it said itself.
    pub replica: Uuid,
    /// What it took, one for each of those that are counted.
    pub taken: Vec<RateShare>,
}

/// What one replica took of one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateShare {
    /// Which of the gateway's limits.
    pub class: String,
    /// Whose: half of a keyed SHA-256, as 32 hexadecimal digits. Neither addresses nor credentials travel.
    pub name: String,
    /// How many requests.
    pub count: u32,
}

//! Presence as it was, as the document shows it.

use chrono::{DateTime, Utc};
use contract::metrics as message;
use poem_openapi::Object;

use crate::json::Documented;

/// A machine came or went.
#[derive(Object)]
pub struct PresenceChange {
    /// When.
    at: DateTime<Utc>,
    /// Whether it was online from then on.
    online: bool,
    /// Why: `connected`, `connection lost`, `no answer`, `server lost`, `clean stop: …`.
    reason: String,
}

/// A page of changes, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct PresenceHistoryPage {
    /// The changes.
    items: Vec<PresenceChange>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// One day of a machine.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct AvailabilityOfDay {
    /// The day, by UTC: `2026-11-21`.
    day: String,
    /// How much of it the machine was enrolled, in milliseconds; so far, for today.
    observed_ms: i64,
    /// How much of that it was online, in milliseconds.
    online_ms: i64,
    /// The same as a share, 0 to 100.
    percent: f64,
}

/// A machine's days, the oldest first; only those in which it was enrolled.
#[derive(Object)]
pub struct Availability {
    /// The days.
    items: Vec<AvailabilityOfDay>,
}

impl Documented for message::PresenceHistoryPage {
    type Schema = PresenceHistoryPage;
}

impl Documented for message::Availability {
    type Schema = Availability;
}

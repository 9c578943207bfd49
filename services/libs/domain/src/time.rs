//! Timestamps as they travel: RFC 3339, UTC, milliseconds (`2026-01-09T23:52:38.548Z`).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Duration, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time with millisecond resolution, so that what is stored, sent and compared is one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

/// A text that is not an RFC 3339 timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an RFC 3339 timestamp such as 2026-01-09T23:52:38.548Z, of the years 0000 to 9999 in UTC"
)]
pub struct TimestampError(String);

impl Timestamp {
    /// The clock of this machine, now.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // the one place that asks the clock
    pub fn now() -> Self {
        Self::from(Utc::now())
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The time that many milliseconds after the Unix epoch; `None` outside chrono's range.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// This time moved by `duration`, saturating at the ends of the calendar.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .checked_add_signed(duration)
                .unwrap_or(if duration < Duration::zero() {
                    DateTime::<Utc>::MIN_UTC
                } else {
                    DateTime::<Utc>::MAX_UTC
                }),
        )
    }

    /// How long after `earlier` this is; negative when it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.signed_duration_since(earlier.0)
    }

    /// As chrono's type, for libraries that speak it (PostgreSQL's driver, HTTP documents).
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(3))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        // RFC 3339 writes a year in four digits, and an offset can lead out of them: what came could not go on.
        DateTime::parse_from_rfc3339(text)
            .map(|time| time.with_timezone(&Utc))
            .ok()
            .filter(|time| (0..=9_999).contains(&time.year()))
            .map(Self::from)
            .ok_or_else(|| TimestampError(text.chars().take(64).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travels_as_rfc3339_with_milliseconds() -> Result<(), serde_json::Error> {
        let time: Timestamp = serde_json::from_str("\"2026-01-09T23:52:38.5489+01:00\"")?;
        assert_eq!(
            serde_json::to_string(&time)?,
            "\"2026-01-09T22:52:38.548Z\""
        );
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("2026-01-09".parse::<Timestamp>().is_err());
    }

    #[test]
    fn what_is_taken_can_be_written_and_taken_again() {
        for text in [
            "9999-12-31T23:59:59.999Z",
            "9999-12-31T23:59:59+00:01",
            "0000-01-01T00:00:00Z",
        ] {
            let time: Timestamp = text.parse().expect(text);
            assert_eq!(time.to_string().parse(), Ok(time), "{text}");
        }
        for text in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+00:01"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}

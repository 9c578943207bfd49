//! The life of an execution: `PENDING → RUNNING → COMPLETED | FAILED | TIMEOUT | CANCELLED`. Attempts are numbered from 1;
//! they never overlap in time, and each ends in one of these ways: [`Outcome`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ExecutionId, Timestamp};

/// The most executions of one request, to create, cancel or begin again.
pub const BATCH_MAX: usize = 10_000;
/// The longest override of a job's configuration, in bytes of its JSON text.
pub const OVERRIDE_MAX_BYTES: usize = 64 * 1024;
/// The longest result that is kept, in bytes of its JSON text.
pub const RESULT_MAX_BYTES: usize = 64 * 1024;
/// The longest message of an error, in characters.
pub const ERROR_MESSAGE_MAX_CHARS: usize = 4_000;
/// The longest stack of an error, in characters.
pub const ERROR_STACK_MAX_CHARS: usize = 16_000;
/// What is kept of an execution's log: the last so many bytes.
pub const LOG_MAX_BYTES: usize = 64 * 1024;
/// The longest line of a log, in bytes; what is longer is cut.
pub const LOG_LINE_MAX_BYTES: usize = 8 * 1024;
/// The longest key for concurrency or deduplication, in characters.
pub const KEY_MAX_CHARS: usize = 128;
/// How far ahead an execution may be asked for.
pub const DELAY_MAX: chrono::Duration = chrono::Duration::days(30);
/// How often an execution may lose its worker before it is given up: what brings workers down must not go on for ever.
pub const LOSSES_MAX: i16 = 3;
/// What is kept of the attempts before: the last so many. Who begins something again and again must not make its row grow.
pub const ATTEMPTS_KEPT: usize = 50;

/// For how long a worker's session holds after it was renewed.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often a worker renews its session.
pub const LEASE_RENEW: Duration = Duration::from_secs(2);
/// After so long without an answer, measured from when the question was sent, a worker refuses what its handlers ask for.
pub const LEASE_DOUBTED: Duration = Duration::from_secs(7);
/// After so long it ends its handlers.
pub const LEASE_OVER: Duration = Duration::from_secs(8);

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionStatus {
    /// It waits: for its time, for a free slot, or for its next attempt.
    Pending,
    /// A worker has it.
    Running,
    /// The handler returned.
    Completed,
    /// The handler failed, as often as the job allows; or its workers died.
    Failed,
    /// The last attempt that the job allows took longer than its timeout.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
}

impl ExecutionStatus {
    /// All statuses, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// Whether it has ended. Only somebody's word can begin it again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The name as it is stored and sent: `COMPLETED`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for ExecutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExecutionStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
                format!(
                    "unknown execution status `{text}`; known are {}",
                    known.join(", ")
                )
            })
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The handler returned.
    Completed,
    /// The handler failed.
    Failed,
    /// It took too long, and was ended.
    Timeout,
    /// It was ended because somebody cancelled the execution.
    Cancelled,
    /// The worker stops and gives it back: another attempt follows, and none is used up.
    HandedBack,
    /// Nobody knows: the worker's session expired. The scheduler's word, never a worker's.
    Lost,
}

impl Outcome {
    /// The name as it is stored and sent: `HANDED_BACK`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::HandedBack => "HANDED_BACK",
            Self::Lost => "LOST",
        }
    }
}

/// The first id of a millisecond: whatever was made at this time or later has this id or a greater one, because an id begins
/// with the milliseconds since the epoch (UUIDv7). Of times that no id can say, the nearest one that it can.
#[must_use]
pub fn first_id(time: Timestamp) -> Uuid {
    const LAST: u64 = (1 << 48) - 1;
    let millis = u64::try_from(time.millis()).unwrap_or_default().min(LAST);
    Uuid::from_u128(u128::from(millis) << 80)
}

/// When an execution was made, as its id says it: so a range of time and a range of ids are the same.
#[must_use]
pub fn made_at(id: ExecutionId) -> Timestamp {
    let millis = i64::try_from(id.0.as_u128() >> 80).unwrap_or_default();
    // 48 bits of milliseconds end in the year 10889, which is in every calendar.
    Timestamp::from_millis(millis).unwrap_or_else(Timestamp::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_time_is_a_range_of_ids() {
        let before = Timestamp::now();
        let id = ExecutionId::new();
        let at = made_at(id);
        assert!(at >= before && at <= Timestamp::now().plus(chrono::Duration::seconds(1)));
        assert!(first_id(at) <= id.0);
        assert!(first_id(at.plus(chrono::Duration::milliseconds(1))) > id.0);
        assert_eq!(made_at(first_id(at).into()), at);
        let known: Timestamp = "2026-01-09T23:52:38.548Z".parse().expect("a time");
        assert_eq!(
            first_id(known).to_string(),
            format!(
                "{:08x}-{:04x}-0000-0000-000000000000",
                known.millis() >> 16,
                known.millis() & 0xffff
            )
        );
        let earliest: Timestamp = "0001-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(first_id(earliest), Uuid::nil());
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for status in ExecutionStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("DONE".parse::<ExecutionStatus>().is_err());
    }

    #[test]
    fn a_worker_stops_before_its_lease_is_over() {
        assert!(LEASE_RENEW * 3 < LEASE_DOUBTED);
        assert!(LEASE_DOUBTED < LEASE_OVER && LEASE_OVER < LEASE);
    }
}

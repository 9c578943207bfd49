//! The life of an action: `QUEUED → DELIVERED → RUNNING → SUCCEEDED | FAILED | EXPIRED | CANCELLED |
//! INTERRUPTED | UNKNOWN`, effectively once and honestly reported.

use std::fmt;
use std::str::FromStr;

use chrono::Duration;
use serde::{Deserialize, Serialize};

/// The longest payload of an action, in bytes of its JSON text.
pub const PAYLOAD_MAX_BYTES: usize = 64 * 1024;
/// `notAfter` when the caller sets none: seven days after creation.
pub const NOT_AFTER_DEFAULT: Duration = Duration::days(7);
/// The furthest `notAfter`: thirty days after creation.
pub const NOT_AFTER_MAX: Duration = Duration::days(30);
/// The most actions of one machine that have not ended. What ends them all at once (a revocation, a lost journal) is
/// one transaction.
pub const OPEN_MAX: i64 = 1_000;
/// The most machines for which one request queues an action.
pub const FAN_OUT_MAX: usize = 10_000;
/// How often a machine over HTTP is handed an action of which it says nothing. A reboot that is never reported must not
/// become a machine that never stops rebooting.
pub const HANDOUTS_MAX: i32 = 3;
/// How long after `notAfter` an agent remembers an action's id, so that a late repetition meets its journal.
pub const MEMORY_AFTER_NOT_AFTER: Duration = Duration::hours(24);

/// Where an action stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActionStatus {
    /// Committed, and not yet accepted by the machine.
    Queued,
    /// In the machine's journal.
    Delivered,
    /// The machine's journal says that it began.
    Running,
    /// Done; the machine says so.
    Succeeded,
    /// Not done, or done wrongly; the machine says why.
    Failed,
    /// Its `notAfter` passed before it began. Not executed.
    Expired,
    /// Cancelled before it began. Not executed.
    Cancelled,
    /// The agent died in the middle; it may have been done in part.
    Interrupted,
    /// The machine never said, within the time that it had.
    Unknown,
}

impl ActionStatus {
    /// All statuses, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Delivered,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Interrupted,
        Self::Unknown,
    ];

    /// Whether nothing more can happen. (Only a journalled result of the same attempt may replace UNKNOWN.)
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Delivered | Self::Running)
    }

    /// The name as it is stored and sent: `SUCCEEDED`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Delivered => "DELIVERED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
            Self::Interrupted => "INTERRUPTED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether the step to `next` is one that the state machine has.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => next != Self::Queued,
            Self::Delivered => !matches!(next, Self::Queued | Self::Delivered),
            Self::Running => next.is_terminal(),
            // A repeated attempt of an idempotent action goes back to the queue.
            Self::Interrupted => next == Self::Queued,
            Self::Unknown => next.is_terminal() && next != Self::Unknown,
            _ => false,
        }
    }
}

impl fmt::Display for ActionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
                format!(
                    "unknown action status `{text}`; known are {}",
                    known.join(", ")
                )
            })
    }
}

/// How an agent's journal says that an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Done.
    Succeeded,
    /// Not done, or done wrongly.
    Failed,
    /// Its `notAfter` had passed; not executed.
    Expired,
    /// Cancelled before it began; not executed.
    Cancelled,
    /// The agent died in the middle of it.
    Interrupted,
}

impl Outcome {
    /// The status that this outcome gives the action.
    #[must_use]
    pub fn status(self) -> ActionStatus {
        match self {
            Self::Succeeded => ActionStatus::Succeeded,
            Self::Failed => ActionStatus::Failed,
            Self::Expired => ActionStatus::Expired,
            Self::Cancelled => ActionStatus::Cancelled,
            Self::Interrupted => ActionStatus::Interrupted,
        }
    }
}

/// What a machine can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Answer; shows the way there and back.
    Ping,
    /// Show a text to whoever uses the machine.
    Message,
    /// Restart the agent.
    Restart,
    /// Restart the machine.
    Reboot,
}

impl ActionKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Ping, Self::Message, Self::Restart, Self::Reboot];

    /// The name as it is stored and sent: `ping`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Message => "message",
            Self::Restart => "restart",
            Self::Reboot => "reboot",
        }
    }

    /// Whether it runs alone, in the order of `seq`; the others run beside anything.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Restart | Self::Reboot)
    }

    /// How long a machine over HTTP has to report an action that it was handed, before it is handed out again. Such an
    /// agent asks every 15 to 30 seconds and reports at once; while it restarts, or its machine boots, it cannot.
    #[must_use]
    pub fn lease(self) -> Duration {
        match self {
            Self::Ping | Self::Message => Duration::seconds(60),
            Self::Restart => Duration::minutes(2),
            Self::Reboot => Duration::minutes(10),
        }
    }

    /// Whether a machine over HTTP can be told to do it: Dash-Fleet's agents know these.
    #[must_use]
    pub fn is_legacy(self) -> bool {
        matches!(self, Self::Message | Self::Restart | Self::Reboot)
    }

    /// How long an attempt may run before the server stops expecting word of it.
    #[must_use]
    pub fn run_time(self) -> Duration {
        match self {
            Self::Ping => Duration::seconds(10),
            Self::Message => Duration::seconds(60),
            Self::Restart => Duration::minutes(5),
            // A delay of at most a day, then the machine's own boot.
            Self::Reboot => Duration::hours(25),
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
                format!("unknown kind `{shown}`; known are {}", known.join(", "))
            })
    }
}

/// The payload of `message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagePayload {
    /// A line above the text; the agent says who sends when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text, 1 to 4,096 characters.
    pub message: String,
}

/// The payload of `reboot`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RebootPayload {
    /// Seconds until the machine goes down, 0 to 86,400; 60 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<u32>,
}

/// The delay of a reboot when the payload names none.
pub const REBOOT_DELAY_DEFAULT_SECONDS: u32 = 60;
/// The longest delay of a reboot: a day.
pub const REBOOT_DELAY_MAX_SECONDS: u32 = 86_400;
/// The longest text of a message, in characters.
pub const MESSAGE_MAX_CHARS: usize = 4_096;
/// The longest title of a message, in characters.
pub const TITLE_MAX_CHARS: usize = 200;

/// A payload that its kind does not take: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct PayloadError {
    /// Path of the field, such as `payload.message`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A payload checked against its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `ping {}`
    Ping,
    /// `message {title?, message}`
    Message(MessagePayload),
    /// `restart {}`
    Restart,
    /// `reboot {delaySeconds?}`
    Reboot(RebootPayload),
}

impl Payload {
    /// Checks a payload as it was received against its kind.
    ///
    /// # Errors
    /// [`PayloadError`] naming the field: unknown, missing, of a wrong type, or out of bounds.
    pub fn parse(kind: ActionKind, payload: &serde_json::Value) -> Result<Self, PayloadError> {
        let refuse = |field: &str, message: String| PayloadError {
            path: if field.is_empty() {
                "payload".into()
            } else {
                format!("payload.{field}")
            },
            message,
        };
        let Some(object) = payload.as_object() else {
            return Err(refuse("", "must be an object".into()));
        };
        let known: &[&str] = match kind {
            ActionKind::Ping | ActionKind::Restart => &[],
            ActionKind::Message => &["title", "message"],
            ActionKind::Reboot => &["delaySeconds"],
        };
        if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(refuse(unknown, format!("is not a field of `{kind}`")));
        }
        match kind {
            ActionKind::Ping => Ok(Self::Ping),
            ActionKind::Restart => Ok(Self::Restart),
            ActionKind::Message => {
                let text = |field: &str, longest: usize| match object.get(field) {
                    None | Some(serde_json::Value::Null) => Ok(None),
                    Some(serde_json::Value::String(text)) => match text.chars().count() {
                        0 => Err(refuse(field, "must not be empty".into())),
                        n if n > longest => Err(refuse(
                            field,
                            format!("has {n} characters; at most {longest}"),
                        )),
                        _ => Ok(Some(text.clone())),
                    },
                    Some(_) => Err(refuse(field, "must be a string".into())),
                };
                let title = text("title", TITLE_MAX_CHARS)?;
                let message = text("message", MESSAGE_MAX_CHARS)?
                    .ok_or_else(|| refuse("message", "is required".into()))?;
                Ok(Self::Message(MessagePayload { title, message }))
            }
            ActionKind::Reboot => {
                let delay_seconds = match object.get("delaySeconds") {
                    None | Some(serde_json::Value::Null) => None,
                    Some(value) => Some(
                        value
                            .as_u64()
                            .and_then(|seconds| u32::try_from(seconds).ok())
                            .filter(|seconds| *seconds <= REBOOT_DELAY_MAX_SECONDS)
                            .ok_or_else(|| {
                                refuse(
                                    "delaySeconds",
                                    format!(
                                        "must be an integer from 0 to {REBOOT_DELAY_MAX_SECONDS}"
                                    ),
                                )
                            })?,
                    ),
                };
                Ok(Self::Reboot(RebootPayload { delay_seconds }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terminal_states_stay_but_for_unknown_and_a_repeated_interruption() {
        for from in ActionStatus::ALL {
            for to in ActionStatus::ALL {
                let allowed = from.may_become(to);
                if from.is_terminal() && allowed {
                    let late = from == ActionStatus::Unknown && to != ActionStatus::Unknown;
                    let again = from == ActionStatus::Interrupted && to == ActionStatus::Queued;
                    assert!(late || again, "{from} -> {to}");
                }
                if from == to {
                    assert!(!allowed, "{from} -> itself");
                }
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for status in ActionStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        for kind in ActionKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("format-disk".parse::<ActionKind>().is_err());
    }

    #[test]
    fn payload_errors_name_the_field() {
        let path = |kind, payload| Payload::parse(kind, &payload).map_err(|error| error.path);
        assert_eq!(path(ActionKind::Ping, json!({})), Ok(Payload::Ping));
        assert_eq!(path(ActionKind::Ping, json!([])), Err("payload".into()));
        assert_eq!(
            path(ActionKind::Ping, json!({"a": 1})),
            Err("payload.a".into())
        );
        assert_eq!(
            path(ActionKind::Message, json!({})),
            Err("payload.message".into())
        );
        assert_eq!(
            path(ActionKind::Message, json!({"message": 7})),
            Err("payload.message".into())
        );
        assert_eq!(
            path(ActionKind::Reboot, json!({"delaySeconds": -1})),
            Err("payload.delaySeconds".into())
        );
        assert_eq!(
            path(ActionKind::Reboot, json!({"delaySeconds": 86_401})),
            Err("payload.delaySeconds".into())
        );
    }
}

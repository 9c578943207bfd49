//! What the kinds do. Each ends with an outcome, whatever happens to it.

use std::sync::Arc;
use std::time::Duration;

use contract::agent::ActionError;
use domain::action::{Outcome, Payload};
use serde_json::{Value, json};

use crate::collect::inventory::{VERSION, hostname};
use crate::engine::Work;
use crate::policy::Policy;

pub mod message;

/// Whether a reboot is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootMode {
    /// The machine goes down.
    Real,
    /// Nothing happens, and the result says so: for tests and containers.
    DryRun,
}

impl std::str::FromStr for RebootMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "real" => Ok(Self::Real),
            "dry-run" => Ok(Self::DryRun),
            _ => Err("neither `real` nor `dry-run`".into()),
        }
    }
}

impl std::fmt::Display for RebootMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::DryRun => "dry-run",
        })
    }
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// What it gave.
    pub result: Option<Value>,
    /// Why it did not succeed.
    pub error: Option<ActionError>,
}

impl Ending {
    /// It succeeded, and gave this.
    #[must_use]
    pub fn succeeded(result: Value) -> Self {
        Self {
            outcome: Outcome::Succeeded,
            result: Some(result),
            error: None,
        }
    }

    /// It failed.
    #[must_use]
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        let error = ActionError {
            code: code.into(),
            message: message.into(),
        };
        Self {
            outcome: Outcome::Failed,
            result: None,
            error: Some(error),
        }
    }
}

/// What kinds need to know.
#[derive(Clone, Debug)]
pub struct Means {
    /// What the owner of the machine allows.
    pub policy: Arc<Policy>,
    /// Whether a reboot is one.
    pub reboot: RebootMode,
}

/// How long after a reboot was asked for the machine must be gone.
const REBOOT_PATIENCE: Duration = Duration::from_secs(600);
/// The same when the request seems to have failed: on an overloaded machine a program that was killed, or that heard no
/// answer, may have been understood.
const REBOOT_DOUBT: Duration = Duration::from_secs(60);

/// Executes; `restart` is not one of these, because the process that would end it is gone by then.
pub async fn execute(work: &Work, means: &Means) -> Ending {
    match &work.payload {
        Payload::Ping => Ending::succeeded(
            json!({ "pong": true, "agentVersion": VERSION, "hostname": hostname() }),
        ),
        Payload::Message(payload) => message::show(payload, &means.policy).await,
        Payload::Restart => Ending::failed("internal", "a restart is not executed here"),
        Payload::Reboot(_) => match means.reboot {
            RebootMode::DryRun => Ending::succeeded(json!({ "dryRun": true })),
            RebootMode::Real => {
                let asked = crate::platform::reboot().await;
                reboot_asked(asked, REBOOT_DOUBT, REBOOT_PATIENCE).await
            }
        },
    }
}

/// Waits for a reboot that was asked for: `doubt` long when that seems to have failed, else for `patience`. The machine
/// ends this process, and the next life sees another boot id. That it did not is the outcome.
pub async fn reboot_asked(
    asked: Result<(), String>,
    doubt: Duration,
    patience: Duration,
) -> Ending {
    if let Err(error) = asked {
        tracing::warn!(
            error,
            "the reboot could not be asked for, or nobody said that it was"
        );
        tokio::time::sleep(doubt).await;
        return Ending::failed("reboot-failed", error);
    }
    tokio::time::sleep(patience).await;
    Ending::failed(
        "reboot-did-not-happen",
        "the system took the request and is still the same boot ten minutes later",
    )
}

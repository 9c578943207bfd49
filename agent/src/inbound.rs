//! What comes from the bus, before anything is believed: verified, then parsed, then compared with who this is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contract::order::fingerprint;
use domain::{DeploymentId, MachineId, OrgId, Timestamp};

use crate::state::enrolment::Enrolment;
use crate::state::standing::LastRefused;

pub mod order;
pub mod page;

/// The longest text that is remembered of a refusal, in characters.
const TEXT_MAX_CHARS: usize = 300;

/// Who this agent is: what an order must be addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The installation.
    pub deployment: DeploymentId,
    /// The organisation.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
    /// The fingerprint of its key.
    pub fingerprint: String,
}

impl Identity {
    /// The identity that an enrolment gave.
    #[must_use]
    pub fn of(enrolment: &Enrolment) -> Self {
        Self {
            deployment: enrolment.enrolled.deployment_id,
            org: enrolment.enrolled.organization_id,
            machine: enrolment.enrolled.machine_id,
            fingerprint: fingerprint(&enrolment.public_key),
        }
    }
}

/// Why something from the bus is refused. It is logged and counted; nobody gets an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not `{kid, sig, body}`.
    #[error("it is not a signed message: {0}")]
    Malformed(String),
    /// The signature does not hold.
    #[error("{0}")]
    Signature(contract::order::SignatureError),
    /// Signed, and yet not understood: an unknown field, for one.
    #[error("its body is not understood: {0}")]
    Body(String),
    /// For somebody else.
    #[error("it is addressed to another {0}")]
    Address(&'static str),
    /// The verb of the subject is not the verb that was signed.
    #[error("it came as `{came}` and says `{says}`")]
    Verb {
        /// The subject's last token.
        came: String,
        /// What was signed.
        says: &'static str,
    },
    /// A part that its verb needs is missing, or one that it does not take is there.
    #[error("{0}")]
    Shape(&'static str),
    /// An old page, played again.
    #[error("it answers another question")]
    Nonce,
    /// More than the protocol allows.
    #[error("it has {0} bytes")]
    TooLong(usize),
}

/// How many refusals there were.
#[derive(Clone, Debug, Default)]
pub struct Refused(Arc<AtomicU64>, Arc<Mutex<Option<LastRefused>>>);

impl Refused {
    /// Logs a refusal and counts it.
    pub fn note(&self, what: &str, refusal: &Refusal) {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(what, reason = %refusal, count, "refused");
        // Who sends it decides what is in it.
        let plain = |text: &str| {
            let text = text.chars().filter(|c| !c.is_control());
            text.take(TEXT_MAX_CHARS).collect()
        };
        self.remember(LastRefused {
            at: Timestamp::now(),
            what: plain(what),
            reason: plain(&refusal.to_string()),
        });
    }

    /// Remembers what was refused last.
    pub fn remember(&self, refused: LastRefused) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    /// What was refused last.
    #[must_use]
    pub fn last(&self) -> Option<LastRefused> {
        let last = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

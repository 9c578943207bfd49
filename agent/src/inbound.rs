//! What comes from the bus, before anything is believed: verified, then parsed, then compared with who this is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::order::fingerprint;
use domain::{DeploymentId, MachineId, OrgId};

use crate::state::enrolment::Enrolment;

pub mod order;
pub mod page;

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
pub struct Refused(Arc<AtomicU64>);

impl Refused {
    /// Logs a refusal and counts it.
    pub fn note(&self, what: &str, refusal: &Refusal) {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(what, reason = %refusal, count, "refused");
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

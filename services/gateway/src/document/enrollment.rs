//! Enrolment, as the document shows it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::identity as message;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use super::machine::Inventory;
use crate::json::Documented;

/// What a machine must sign to enrol.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct EnrollmentChallenge {
    /// Opaque text; it comes back in the enrolment.
    challenge: String,
    /// When it is too late.
    expires_at: DateTime<Utc>,
    /// Fingerprints of the keys that sign orders, the current one first: SHA-256 of each key's nkey text, hexadecimal.
    action_keys: Option<Vec<String>>,
}

/// A machine's request to join: token, key, and the proof that it holds the key.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Enrollment {
    /// `dfe_…`
    #[oai(validator(min_length = 1, max_length = 512))]
    token: String,
    /// The challenge that was signed.
    #[oai(validator(min_length = 1, max_length = 2048))]
    challenge: String,
    /// The machine's public key (nkey text, `U…`).
    #[oai(validator(min_length = 1, max_length = 128))]
    public_key: String,
    /// Base64 of the signature by that key over `"dashfleet/enroll/1\0" ‖ challenge ‖ SHA-256(token) ‖ publicKey`.
    #[oai(validator(min_length = 1, max_length = 256))]
    signature: String,
    /// The machine's name.
    #[oai(validator(min_length = 1, max_length = 253))]
    hostname: String,
    inventory: Option<Inventory>,
    /// Labels that the machine asks for.
    labels: Option<HashMap<String, String>>,
}

/// A machine's place in the fleet, and what it needs to take it.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Enrolled {
    /// The organisation.
    organization_id: Uuid,
    /// The machine.
    machine_id: Uuid,
    /// The installation.
    deployment_id: Uuid,
    /// Where the bus is, in the order to try.
    nats_urls: Vec<String>,
    /// PEM of the authority that signs the bus' certificate; absent where the system's are used.
    nats_ca: Option<String>,
    /// The keys whose orders the agent obeys.
    action_keys: Vec<String>,
}

/// A machine's question why the bus refuses its key, and the proof that it holds the key.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct StandingQuestion {
    /// The challenge that was signed.
    #[oai(validator(min_length = 1, max_length = 2048))]
    challenge: String,
    /// The machine's public key (nkey text, `U…`).
    #[oai(validator(min_length = 1, max_length = 128))]
    public_key: String,
    /// Base64 of the signature by that key over `"dashfleet/standing/1\0" ‖ challenge ‖ publicKey`.
    #[oai(validator(min_length = 1, max_length = 256))]
    signature: String,
}

/// What a key is worth.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyStanding {
    /// A machine's.
    Enrolled,
    /// A machine's that is not trusted for now.
    Quarantined,
    /// Never accepted again.
    Revoked,
    /// Nobody's.
    Unknown,
}

/// How a machine's key stands.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Standing {
    standing: KeyStanding,
}

impl Documented for message::StandingGet {
    type Schema = StandingQuestion;
    // As for an enrolment: agents may be newer than the gateway.
    const STRICT: bool = false;
}

impl Documented for message::Standing {
    type Schema = Standing;
}

impl Documented for message::Challenged {
    type Schema = EnrollmentChallenge;
}

impl Documented for message::Enroll {
    type Schema = Enrollment;
    // A newer agent may say more about its machine than an older gateway knows.
    const STRICT: bool = false;
}

impl Documented for message::Enrolled {
    type Schema = Enrolled;
}

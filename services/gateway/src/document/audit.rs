//! The audit, as the document shows it.

use chrono::{DateTime, Utc};
use contract::audit as message;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use crate::json::Documented;

/// What an actor is.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActorKind {
    /// A person.
    User,
    /// An API key.
    ApiKey,
    /// A service of this installation, by itself.
    Service,
    /// A module's code.
    Module,
    /// A machine.
    Machine,
}

/// How it ended.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditOutcome {
    /// It was done.
    Succeeded,
    /// It was refused, for want of a right.
    Denied,
}

/// Who did it.
#[derive(Object)]
pub struct AuditActor {
    kind: ActorKind,
    /// The person's, key's or machine's id; a service has none.
    id: Option<Uuid>,
    /// Its name at that time: of a person the e-mail address.
    name: Option<String>,
}

/// What it was done to.
#[derive(Object)]
pub struct AuditResource {
    /// What kind of thing, such as `machine`.
    kind: String,
    /// Its id, when it is one thing.
    id: Option<String>,
    /// Its name at that time.
    name: Option<String>,
}

/// What somebody did, or was refused.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Its place in the organisation's chain: 1, 2, 3, without gaps.
    seq: i64,
    /// The service that told of it.
    service: String,
    /// Its id.
    id: Uuid,
    /// The organisation.
    org: Uuid,
    /// When.
    at: DateTime<Utc>,
    actor: AuditActor,
    /// With which session, key or enrolment token.
    credential: Option<Uuid>,
    /// From which address.
    address: Option<String>,
    /// What: `machine.revoke`.
    call: String,
    resource: AuditResource,
    outcome: AuditOutcome,
    /// Why it was refused, or done.
    reason: Option<String>,
    /// What was before, without secrets; `{omitted: bytes}` when it was too large.
    before: Option<Value>,
    /// What is since, likewise.
    after: Option<Value>,
    /// How many things, or how often within a minute.
    count: u32,
    /// The trace of the request.
    trace_id: Option<String>,
    /// SHA-256 over this entry and the one before, in hexadecimal digits.
    hash: String,
}

/// A page of entries, the latest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct AuditPage {
    /// The entries.
    items: Vec<AuditEvent>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// What is wrong with a chain.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditFault {
    /// The entry is not what it was when it was recorded.
    Changed,
    /// Entries are gone.
    Missing,
    /// From here on it is not the chain that was signed.
    RewrittenTail,
    /// Nobody signed the chain from here on, for longer than it takes.
    Unsigned,
    /// A signature is not the action service's.
    BadSignature,
    /// The action service's own copies of what it signed do not follow from each other.
    CopiesChanged,
    /// The action service does not answer: what is said here, identity alone says.
    ActionAway,
}

/// One fault.
#[derive(Object)]
pub struct AuditProblem {
    /// The place in the chain.
    seq: i64,
    kind: AuditFault,
    /// In words.
    words: String,
}

/// Up to where a chain is signed.
#[derive(Object)]
pub struct SignedThrough {
    /// The place.
    seq: i64,
    /// When it was signed.
    at: DateTime<Utc>,
}

/// What a verification found.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct AuditVerified {
    /// Whether everything was looked at and nothing is wrong with it.
    ok: bool,
    /// How many entries were computed anew.
    entries: i64,
    /// The first of them.
    first_seq: Option<i64>,
    /// The last of them.
    last_seq: Option<i64>,
    signed_through: Option<SignedThrough>,
    /// What is wrong, the first fault first.
    problems: Vec<AuditProblem>,
    /// Where to go on (`from`): one answer looks at so many entries only. Absent at the end.
    next: Option<i64>,
}

impl Documented for message::AuditPage {
    type Schema = AuditPage;
}

impl Documented for message::AuditVerified {
    type Schema = AuditVerified;
}

impl Documented for message::AuditOutcome {
    type Schema = AuditOutcome;
}

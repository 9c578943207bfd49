//! Calls about the audit: who did what, chained for each organisation by identity.
//!
//! A service writes an [`AuditEntry`] in the transaction of what it tells of, and hands it to identity by
//! [`AuditAppend`]. It never travels as an event: an entry says what was before and after.

use domain::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::Done;

pub mod chain;
pub mod entry;
pub mod head;

pub use entry::{Actor, ActorKind, AuditEntry, AuditOutcome, Resource};
pub use head::{Head, HeadSignature, SignedHead};

/// For how many days entries are kept when nobody says otherwise, and what may be said: never less than a quarter.
pub const RETENTION_DAYS: i32 = 400;
/// See [`RETENTION_DAYS`].
pub const RETENTION_DAYS_RANGE: std::ops::RangeInclusive<i32> = 90..=36_500;
/// The most entries of one [`AuditAppend`].
pub const APPEND_MAX: usize = 256;
/// The most bytes of the entries of one [`AuditAppend`]; a single larger one goes alone.
pub const APPEND_MAX_BYTES: usize = 1024 * 1024;
/// The most heads in one message.
pub const HEADS_MAX: u32 = 500;
/// The most entries of a page for people, and of one for an export.
pub const LIST_MAX: u32 = 200;
/// See [`LIST_MAX`].
pub const EXPORT_MAX: u32 = 1_000;
/// The most bytes of the operation's name in one [`AuditRefused`].
pub const OPERATION_MAX_BYTES: usize = 160;
/// The most attempts that one [`AuditRefused`] tells of.
pub const REFUSED_MAX: u32 = 100_000;

/// `audit.append`: entries of a service's outbox, in their order. The service is the one of the subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditAppend {
    /// The entries, [`APPEND_MAX`] at most.
    pub entries: Vec<AuditEntry>,
}

impl AuditAppend {
    /// Entries as they lie in an outbox.
    ///
    /// # Errors
    /// What is wrong with the first that is none.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let entries: Result<_, serde_json::Error> =
            texts.into_iter().map(serde_json::from_str).collect();
        entries
            .map(|entries| Self { entries })
            .map_err(|error| format!("this is no entry: {error}"))
    }
}

/// What became of one entry; in each case its service may forget it, but for REFUSED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditVerdict {
    /// It is committed.
    Applied,
    /// It was committed before.
    Duplicate,
    /// The database does not take it, and would not the next time: somebody has to look at it.
    Refused,
}

impl AuditVerdict {
    /// Why the entry is not in the audit; nothing when it is.
    #[must_use]
    pub fn refusal(self) -> Option<String> {
        (self == Self::Refused).then(|| "identity's database does not take it".to_owned())
    }
}

/// One verdict for each entry, in their order. All of them are committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAppended {
    /// The verdicts.
    pub items: Vec<AuditVerdict>,
}

crate::call!(AuditAppend => AuditAppended: "identity", "audit", "append", Services, idempotent: true);

/// Why the gateway itself refuses a caller, before it asks an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TurnedAway {
    /// The key came from an address that it is not taken from.
    Network,
    /// A legacy key, where none is taken.
    LegacyKey,
    /// Another credential, where only a legacy key is taken.
    NotLegacyKey,
    /// A session in cookies, with which a page of another site asked, or one that proved nothing.
    ForeignPage,
}

impl TurnedAway {
    /// The reason as the audit has it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Network => "this key is not taken from this address",
            Self::LegacyKey => "a legacy key is for the routes of Dash-Fleet alone",
            Self::NotLegacyKey => "this needs a legacy key",
            Self::ForeignPage => "no page of this installation asked with this session's cookies",
        }
    }
}

/// `audit.refused`: what the gateway refused a caller before it asked any owner. It carries the caller's own grant, which
/// says whose organisation and credential it is: without one nothing is noted, and never more than whoever has that grant
/// could bring about by being refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRefused {
    /// What was asked for: the method, and the path as the document writes it (`DELETE /api/v1/machines/{id}`); 1 to
    /// [`OPERATION_MAX_BYTES`] bytes of printable ASCII.
    pub operation: String,
    /// Why it was refused.
    pub reason: TurnedAway,
    /// How often since it was last told, 1 to [`REFUSED_MAX`].
    pub count: u32,
}

crate::call!(AuditRefused => Done: "identity", "audit", "refused", Gateway, idempotent: false);

/// Which entries a question means; an absent field means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditFilter {
    /// Of this actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Uuid>,
    /// Of this call, such as `machine.revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// About the thing with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// With this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuditOutcome>,
    /// From this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// `audit.list`: the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditList {
    /// Which.
    #[serde(default)]
    pub filter: AuditFilter,
    /// At most so many, 1 to [`LIST_MAX`].
    pub limit: u32,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An entry with its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Its place in the organisation's chain: 1, 2, 3, without gaps.
    pub seq: i64,
    /// The service that told of it.
    pub service: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// SHA-256 over this and the one before ([`chain`]), in hexadecimal digits.
    #[serde(with = "chain::hex")]
    pub hash: chain::Hash,
}

/// A page of entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<AuditEvent>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

crate::call!(AuditList => AuditPage: "identity", "audit", "list", Gateway, idempotent: true);

/// `audit.export`: in the order of the chain, to be asked again from where it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditExport {
    /// Which.
    #[serde(default)]
    pub filter: AuditFilter,
    /// Behind this place; 0 for all.
    #[serde(default)]
    pub after: i64,
    /// At most so many, 1 to [`EXPORT_MAX`].
    pub limit: u32,
}

/// A part of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditExported {
    /// The entries.
    pub items: Vec<AuditEvent>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

crate::call!(AuditExport => AuditExported: "identity", "audit", "export", Gateway, idempotent: true);

/// `audit.verify`: computes the chain anew and holds it against what was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerify {
    /// From this place on; from the first that is kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Up to this place; to the last when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditFault {
    /// The entry is not what it was when it was chained.
    Changed,
    /// Entries are gone.
    Missing,
    /// The chain fits together from here on, but it is not the one that was signed.
    RewrittenTail,
    /// Nobody signed the chain from here on, for longer than it takes.
    Unsigned,
    /// A signature is not action's.
    BadSignature,
    /// Action's own copies of what it signed do not follow from each other.
    CopiesChanged,
    /// Action, which holds the copies of what was signed, does not answer: what is said here, identity alone says.
    ActionAway,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProblem {
    /// The place in the chain.
    pub seq: i64,
    /// What.
    pub kind: AuditFault,
    /// In words.
    pub words: String,
}

/// Up to where a chain is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedThrough {
    /// The place.
    pub seq: i64,
    /// When it was signed.
    pub at: Timestamp,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerified {
    /// Whether everything was looked at and nothing is wrong with it.
    pub ok: bool,
    /// How many entries were computed anew.
    pub entries: i64,
    /// The first of them; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<i64>,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<i64>,
    /// Up to where what was looked at is signed, and fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_through: Option<SignedThrough>,
    /// What is wrong, the first fault first.
    pub problems: Vec<AuditProblem>,
    /// Where to go on (`from`): one answer looks at so many entries only. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

crate::call!(AuditVerify => AuditVerified: "identity", "audit", "verify", Gateway, idempotent: true);

/// `audit.heads`: the ends of chains that are not signed yet, asked by action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeads {
    /// Of organisations behind this one, in the order of their ids; from the first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OrgId>,
    /// At most so many, up to [`HEADS_MAX`].
    pub limit: u32,
}

/// Ends of chains, in the order of their organisations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeadsPage {
    /// The ends.
    pub items: Vec<Head>,
    /// Whether there are more.
    pub more: bool,
}

crate::call!(AuditHeads => AuditHeadsPage: "identity", "audit", "heads", Services, idempotent: true);

/// `audit.countersign`: action gives its signatures to identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCountersign {
    /// The signed ends.
    pub items: Vec<HeadSignature>,
}

crate::call!(AuditCountersign => Done: "identity", "audit", "countersign", Services, idempotent: true);

/// `audit.signed`: action's own copies of what it signed, asked by identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSigned {
    /// The organisation.
    pub org: OrgId,
    /// From this place on.
    pub from: i64,
    /// At most so many, up to [`HEADS_MAX`].
    pub limit: u32,
}

/// Copies of what was signed, in the order of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSignedPage {
    /// The copies.
    pub items: Vec<SignedHead>,
    /// Whether there are more.
    pub more: bool,
    /// The public keys whose signatures are action's, those before the present ones too: from its key files, and from no
    /// database.
    pub keys: Vec<String>,
}

crate::call!(AuditSigned => AuditSignedPage: "action", "audit", "signed", Services, idempotent: true);

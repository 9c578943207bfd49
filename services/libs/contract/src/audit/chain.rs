//! The chain: each entry's hash is over all that is stored of it and the hash before, so that none can be changed, taken
//! out or put in without all that follow becoming others.
//!
//! What is hashed (SHA-256) is [`PREFIX`] and then these fields, in this order: organisation (16 bytes), place (8), hash
//! before (32), id (16), time (8, milliseconds since the epoch), service, kind of actor, id of actor (16), name of actor,
//! credential (16), address, call, kind of resource, id of resource, name of resource, outcome, reason, before, after,
//! count (8), trace. Numbers are big-endian. Before each field stands its length in bytes (4); an absent one is the
//! length `0xffff_ffff` and nothing more. `before` and `after` are the text that is stored, byte for byte: JSON that is
//! read and written again may have become another text.
//!
//! Another form gets another prefix, and both are then computed by where they stand; this one never changes.

use domain::OrgId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What every hash begins with.
pub const PREFIX: &[u8] = b"dashfleet/audit-entry/1\0";
/// SHA-256.
pub type Hash = [u8; 32];
/// What the first entry of an organisation has for the hash before.
pub const ZERO: Hash = [0; 32];

const ABSENT: [u8; 4] = [0xff; 4];

/// All that is stored of an entry.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are those of `AuditEntry` and its place
pub struct Record<'a> {
    pub org: OrgId,
    pub seq: i64,
    pub prev: &'a [u8],
    pub id: Uuid,
    pub at_millis: i64,
    pub service: &'a str,
    pub actor_kind: &'a str,
    pub actor_id: Option<Uuid>,
    pub actor_name: Option<&'a str>,
    pub credential: Option<Uuid>,
    pub address: Option<&'a str>,
    pub call: &'a str,
    pub resource_kind: &'a str,
    pub resource_id: Option<&'a str>,
    pub resource_name: Option<&'a str>,
    pub outcome: &'a str,
    pub reason: Option<&'a str>,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
    pub count: i64,
    pub trace_id: Option<&'a str>,
}

impl Record<'_> {
    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let text = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let id = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec());
        let number = |number: i64| Some(number.to_be_bytes().to_vec());
        let fields = [
            id(Some(self.org.0)),
            number(self.seq),
            Some(self.prev.to_vec()),
            id(Some(self.id)),
            number(self.at_millis),
            text(Some(self.service)),
            text(Some(self.actor_kind)),
            id(self.actor_id),
            text(self.actor_name),
            id(self.credential),
            text(self.address),
            text(Some(self.call)),
            text(Some(self.resource_kind)),
            text(self.resource_id),
            text(self.resource_name),
            text(Some(self.outcome)),
            text(self.reason),
            text(self.before),
            text(self.after),
            number(self.count),
            text(self.trace_id),
        ];
        let mut hasher = Sha256::new_with_prefix(PREFIX);
        for field in fields {
            match field {
                None => hasher.update(ABSENT),
                Some(bytes) => {
                    // No field comes near 4 GiB.
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
                    hasher.update(length.to_be_bytes());
                    hasher.update(&bytes);
                }
            }
        }
        hasher.finalize().into()
    }
}

/// Hashes as hexadecimal digits.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Hash;

    /// The digits.
    #[must_use]
    pub fn text(hash: &[u8]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The hash of 64 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = Hash::default();
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(hash)
    }

    pub(crate) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(hash))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("is not 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            org: OrgId(Uuid::from_u128(1)),
            seq: 7,
            prev: &ZERO,
            id: Uuid::from_u128(2),
            at_millis: 1_767_999_158_548,
            service: "identity",
            actor_kind: "USER",
            actor_id: Some(Uuid::from_u128(3)),
            actor_name: Some("owner@example.org"),
            credential: Some(Uuid::from_u128(4)),
            address: Some("192.0.2.1"),
            call: "machine.edit",
            resource_kind: "machine",
            resource_id: Some("5"),
            resource_name: Some("web-1"),
            outcome: "SUCCEEDED",
            reason: None,
            before: Some("{\"a\":1.0}"),
            after: Some("{\"a\":1}"),
            count: 1,
            trace_id: None,
        }
    }

    /// Chains that exist would break if this changed.
    #[test]
    fn the_form_is_what_it_was() {
        assert_eq!(
            hex::text(&record().hash()),
            "0a59b3b1bcfb910cf04ce5b7ee73fef9dd8fdde26eb73e08a2ff45e0893ab5e2"
        );
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        type Change = fn(&mut Record<'static>);
        let changes: [Change; 23] = [
            |_| {},
            |r| r.org = OrgId(Uuid::from_u128(9)),
            |r| r.seq = 8,
            |r| r.prev = &[1; 32],
            |r| r.id = Uuid::from_u128(9),
            |r| r.at_millis += 1,
            |r| r.service = "action",
            |r| r.actor_kind = "API_KEY",
            |r| r.actor_id = None,
            |r| r.actor_name = None,
            |r| r.actor_name = Some(""),
            |r| r.credential = None,
            |r| r.address = None,
            |r| r.call = "machine.edi",
            |r| (r.call, r.resource_kind) = ("machine.editm", "achine"),
            |r| r.resource_id = None,
            |r| r.resource_name = Some("web-2"),
            |r| r.outcome = "DENIED",
            |r| r.reason = Some("x"),
            |r| r.before = Some("{\"a\":1}"),
            |r| (r.before, r.after) = (r.after, r.before),
            |r| r.count = 2,
            |r| r.trace_id = Some("x"),
        ];
        let hashes: std::collections::BTreeSet<Hash> = changes
            .iter()
            .map(|change| {
                let mut changed = record();
                change(&mut changed);
                changed.hash()
            })
            .collect();
        assert_eq!(hashes.len(), changes.len());
    }

    #[test]
    fn digits_come_back_and_nothing_else_does() {
        let hash = record().hash();
        assert_eq!(hex::parse(&hex::text(&hash)), Some(hash));
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"0".repeat(66)] {
            assert_eq!(hex::parse(wrong), None, "{wrong}");
        }
    }
}

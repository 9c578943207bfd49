//! What an agent obeys: orders signed by the action service.
//!
//! The signature is Ed25519 over a domain prefix and the body's bytes exactly as received: an agent verifies
//! before it parses, and refuses unknown fields.

use domain::action::ActionKind;
use domain::{ActionId, DeploymentId, JournalId, MachineId, OrgId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use nkeys::KeyPair;

/// Prefix of what is signed for one order.
pub const ORDER_PREFIX: &[u8] = b"dashfleet/action/1\0";
/// Prefix of what is signed for a page that answers `sync`.
pub const PAGE_PREFIX: &[u8] = b"dashfleet/sync/1\0";
/// The most bytes of a page's body.
pub const PAGE_MAX_BYTES: usize = 192 * 1024;

/// Signed bytes: `{kid, sig, body}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The public key, in nkey text form; an agent knows it from its enrolment.
    pub kid: String,
    /// The signature, base64.
    #[serde(with = "b64")]
    pub sig: Vec<u8>,
    /// The body's bytes, base64.
    #[serde(with = "b64")]
    pub body: Vec<u8>,
}

/// Why signed bytes are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not one of the pinned ones.
    #[error("signed by `{0}`, which is not a pinned key")]
    UnknownKey(String),
    /// The signature is not over these bytes by that key.
    #[error("the signature does not fit")]
    Mismatch,
    /// The signing key itself is unusable.
    #[error("the signing key is unusable: {0}")]
    Key(String),
}

impl Signed {
    /// Signs a body.
    ///
    /// # Errors
    /// [`SignatureError::Key`] when the pair has no private half.
    pub fn sign(prefix: &[u8], body: Vec<u8>, key: &KeyPair) -> Result<Self, SignatureError> {
        let sig = key
            .sign(&[prefix, &body].concat())
            .map_err(|error| SignatureError::Key(error.to_string()))?;
        Ok(Self {
            kid: key.public_key(),
            sig,
            body,
        })
    }

    /// The body, when one of the pinned keys signed it.
    ///
    /// # Errors
    /// [`SignatureError::UnknownKey`] or [`SignatureError::Mismatch`].
    pub fn verify(&self, prefix: &[u8], pinned: &[String]) -> Result<&[u8], SignatureError> {
        if !pinned.contains(&self.kid) {
            return Err(SignatureError::UnknownKey(
                self.kid.chars().take(64).collect(),
            ));
        }
        let key = KeyPair::from_public_key(&self.kid)
            .map_err(|error| SignatureError::Key(error.to_string()))?;
        key.verify(&[prefix, &self.body].concat(), &self.sig)
            .map_err(|_| SignatureError::Mismatch)?;
        Ok(&self.body)
    }
}

/// What an order says; also the last token of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Execute this action.
    New,
    /// Do not begin this action; if it began, go on.
    Cancel,
    /// The server's time is `issuedAt`; and look: a `sync` is wanted.
    Time,
    /// These are the keys from now on.
    Keys,
}

impl Verb {
    /// The token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cancel => "cancel",
            Self::Time => "time",
            Self::Keys => "keys",
        }
    }
}

/// Which action an order is about, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// The installation that gives the order.
    pub deployment: DeploymentId,
    /// The machine's organisation.
    pub org: OrgId,
    /// The machine that is meant.
    pub machine: MachineId,
    /// Fingerprint of that machine's key: an order for an earlier enrolment means nothing.
    pub fingerprint: String,
    /// What is to be done.
    pub verb: Verb,
    /// When it was signed, by the server's clock.
    pub issued_at: Timestamp,
    /// The action; absent for `time` and `keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The keys from now on; `keys` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// The action of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// The action.
    pub action: ActionId,
    /// Its place among the machine's actions: 1, 2, 3, without gaps.
    pub seq: i64,
    /// Its attempt, from 1. Only an action declared idempotent sees a second.
    pub attempt: i32,
    /// The kind.
    pub kind: ActionKind,
    /// What the kind takes.
    pub payload: serde_json::Value,
    /// Whether it may be run again after an interruption.
    pub idempotent: bool,
    /// After this it must not begin.
    pub not_after: Timestamp,
    /// W3C trace context of the request that made it, so that the execution is in the same tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What an agent asks on `sync`. The journal's head is a chained hash: a copy of a machine betrays itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRequest {
    /// Everything up to this `seq` is known.
    pub after_seq: i64,
    /// The journal.
    pub journal_id: JournalId,
    /// How many entries it has, ever, of those that are on the disk: a crash must not make it fewer.
    pub entries: i64,
    /// The hash of the last one, hexadecimal.
    pub head: String,
    /// This life of the agent.
    pub session_id: SessionId,
    /// This boot of the machine.
    pub boot_id: String,
    /// Random; comes back in the page, so that an old page is no answer.
    pub nonce: Uuid,
    /// The `echo` of the page before, if it had one: proof that this life is alive after that page was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Uuid>,
    /// The public keys whose orders this agent obeys: when they are not the current ones, it is told of them.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// The answer to `sync`, signed as a whole with [`PAGE_PREFIX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncPage {
    /// The installation that answers.
    pub deployment: DeploymentId,
    /// The machine's organisation.
    pub org: OrgId,
    /// The machine that asked.
    pub machine: MachineId,
    /// Fingerprint of that machine's key.
    pub fingerprint: String,
    /// The request's nonce.
    pub nonce: Uuid,
    /// The server's time.
    pub server_time: Timestamp,
    /// What is after `afterSeq`, in the order of `seq`; before it, what is to be tried again or cancelled.
    pub items: Vec<SyncItem>,
    /// Whether there is more after the last item.
    pub more: bool,
    /// What was asked looks like a copy's question. Ask again at once and echo this: a question that was only late
    /// has nobody left to echo it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Uuid>,
    /// The machine is quarantined: nothing is offered, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// One place in a machine's order of actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "state")]
pub enum SyncItem {
    /// Open: to be executed, or to be cancelled when `cancel` is set.
    #[serde(rename_all = "camelCase")]
    Open {
        /// The action.
        task: Task,
        /// Somebody asked that it should not begin.
        cancel: bool,
    },
    /// Ended: nothing to do in all places from `seq` to `through`, and no gap.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// The first place.
        seq: i64,
        /// The last place.
        through: i64,
    },
}

impl SyncItem {
    /// The last place that it speaks of.
    #[must_use]
    pub fn through(&self) -> i64 {
        match self {
            Self::Open { task, .. } => task.seq,
            Self::Ended { through, .. } => *through,
        }
    }
}

/// The fingerprint of a machine's public key: SHA-256 of its nkey text, hexadecimal.
#[must_use]
pub fn fingerprint(public_key: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(public_key.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) mod b64 {
    //! Bytes as base64 in JSON.
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pinned_keys_and_unaltered_bytes_pass() -> Result<(), SignatureError> {
        let (ours, theirs) = (KeyPair::new_service(), KeyPair::new_service());
        let pinned = vec![ours.public_key()];
        let signed = Signed::sign(ORDER_PREFIX, b"{}".to_vec(), &ours)?;
        assert_eq!(signed.verify(ORDER_PREFIX, &pinned)?, b"{}");
        assert_eq!(
            signed.verify(PAGE_PREFIX, &pinned),
            Err(SignatureError::Mismatch)
        );
        let altered = Signed {
            body: b"{ }".to_vec(),
            ..signed
        };
        assert_eq!(
            altered.verify(ORDER_PREFIX, &pinned),
            Err(SignatureError::Mismatch)
        );
        let foreign = Signed::sign(ORDER_PREFIX, b"{}".to_vec(), &theirs)?;
        assert!(matches!(
            foreign.verify(ORDER_PREFIX, &pinned),
            Err(SignatureError::UnknownKey(_))
        ));
        Ok(())
    }

    #[test]
    fn unknown_fields_are_refused() {
        let order = r#"{"deployment":"018f2f3e-0000-7000-8000-000000000000","org":"018f2f3e-0000-7000-8000-000000000000",
            "machine":"018f2f3e-0000-7000-8000-000000000000","fingerprint":"f","verb":"time","issuedAt":"2026-01-01T00:00:00Z"}"#;
        assert!(serde_json::from_str::<Order>(order).is_ok());
        assert!(
            serde_json::from_str::<Order>(&order.replace("\"verb\"", "\"sudo\":1,\"verb\""))
                .is_err()
        );
    }
}

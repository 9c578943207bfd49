//! The end of a chain, signed by action: identity alone cannot make another chain pass for the one that was.
//!
//! What is signed is [`HEAD_PREFIX`], the organisation (16 bytes), the place (8), the hash (32) and the time (8,
//! milliseconds since the epoch), numbers big-endian. The key is the one that signs orders; no order or page begins with
//! this prefix, so that no agent takes such a signature for one of them. Action's copies are a chain of their own, for
//! each organisation.

use domain::{OrgId, Timestamp};
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{Hash, hex};
use crate::order::SignatureError;

/// What every signed end begins with.
pub const HEAD_PREFIX: &[u8] = b"dashfleet/audit-head/1\0";
/// What every link of action's copies begins with.
pub const LINK_PREFIX: &[u8] = b"dashfleet/audit-signed/1\0";

/// The end of an organisation's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The organisation.
    pub org: OrgId,
    /// The place of the last entry.
    pub seq: i64,
    /// Its hash.
    #[serde(with = "hex")]
    pub hash: Hash,
}

/// An end with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSignature {
    /// The end.
    #[serde(flatten)]
    pub head: Head,
    /// When it was signed, by action's clock.
    pub at: Timestamp,
    /// The public key.
    pub kid: String,
    /// The signature, base64.
    #[serde(with = "crate::order::b64")]
    pub sig: Vec<u8>,
}

/// A signed end among action's copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// What was signed.
    #[serde(flatten)]
    pub signature: HeadSignature,
    /// The link before; zeros for the first of an organisation.
    #[serde(with = "hex")]
    pub prev: Hash,
    /// SHA-256 over the link before and this one.
    #[serde(with = "hex")]
    pub link: Hash,
}

impl HeadSignature {
    /// Signs an end.
    ///
    /// # Errors
    /// [`SignatureError::Key`] when the pair has no private half.
    pub fn sign(head: Head, at: Timestamp, key: &KeyPair) -> Result<Self, SignatureError> {
        let sig = key
            .sign(&said(&head, at))
            .map_err(|error| SignatureError::Key(error.to_string()))?;
        Ok(Self {
            head,
            at,
            kid: key.public_key(),
            sig,
        })
    }

    /// Whether one of these keys signed it.
    ///
    /// # Errors
    /// [`SignatureError::UnknownKey`] or [`SignatureError::Mismatch`].
    pub fn verify(&self, keys: &[String]) -> Result<(), SignatureError> {
        if !keys.contains(&self.kid) {
            return Err(SignatureError::UnknownKey(
                self.kid.chars().take(64).collect(),
            ));
        }
        KeyPair::from_public_key(&self.kid)
            .map_err(|error| SignatureError::Key(error.to_string()))?
            .verify(&said(&self.head, self.at), &self.sig)
            .map_err(|_| SignatureError::Mismatch)
    }

    /// The link of this copy, behind another.
    #[must_use]
    pub fn link(&self, prev: &Hash) -> Hash {
        let mut hasher = Sha256::new_with_prefix(LINK_PREFIX);
        hasher.update(prev);
        hasher.update(said(&self.head, self.at));
        hasher.update(self.kid.as_bytes());
        hasher.update(&self.sig);
        hasher.finalize().into()
    }
}

impl SignedHead {
    /// Whether its link is what follows from the one before.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.link == self.signature.link(&self.prev)
    }
}

fn said(head: &Head, at: Timestamp) -> Vec<u8> {
    let mut said = HEAD_PREFIX.to_vec();
    said.extend(head.org.0.as_bytes());
    said.extend(head.seq.to_be_bytes());
    said.extend(head.hash);
    said.extend(at.millis().to_be_bytes());
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{ORDER_PREFIX, PAGE_PREFIX, Signed};

    fn head() -> Head {
        Head {
            org: OrgId::new(),
            seq: 3,
            hash: [7; 32],
        }
    }

    #[test]
    fn a_signature_is_for_this_end_and_no_other() {
        let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
        let signed = HeadSignature::sign(head(), Timestamp::now(), &key).expect("a signature");
        let keys = [key.public_key()];
        assert_eq!(signed.verify(&keys), Ok(()));
        assert!(signed.verify(&[other.public_key()]).is_err());
        type Change = fn(&mut HeadSignature);
        let changes: [Change; 4] = [
            |s| s.head.org = OrgId::new(),
            |s| s.head.seq = 4,
            |s| s.head.hash = [8; 32],
            |s| s.at = Timestamp::from_millis(s.at.millis() + 1).expect("a time"),
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed);
            assert_eq!(changed.verify(&keys), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn no_agent_takes_a_signed_end_for_an_order() {
        let prefixes = [ORDER_PREFIX, PAGE_PREFIX, HEAD_PREFIX];
        for (index, one) in prefixes.iter().enumerate() {
            for other in prefixes.iter().skip(index + 1) {
                assert!(!one.starts_with(other) && !other.starts_with(one));
            }
        }
        let key = KeyPair::new_user();
        let keys = [key.public_key()];
        let signed = HeadSignature::sign(head(), Timestamp::now(), &key).expect("a signature");
        let whole = said(&signed.head, signed.at);
        for prefix in [ORDER_PREFIX, PAGE_PREFIX] {
            // Whatever part of what was signed somebody gives for the body.
            for from in 0..whole.len() {
                let order = Signed {
                    kid: signed.kid.clone(),
                    sig: signed.sig.clone(),
                    body: whole[from..].to_vec(),
                };
                assert!(order.verify(prefix, &keys).is_err());
            }
        }
    }
}

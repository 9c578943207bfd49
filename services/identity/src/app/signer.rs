//! The key of identity: it signs grants, and the challenges of enrolment, which any replica can check.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::Grant;
use contract::grant::{Jwk, Jwks};
use contract::identity::Challenged;
use domain::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nkeys::KeyPair;
use sha2::{Digest, Sha256};

use crate::app::secret::SecretKind;
use crate::error::IdentityError;

/// DER of a PKCS #8 Ed25519 key, up to the seed itself (RFC 8410).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What a challenge's signature begins with; no grant's can, for this is no base64.
const CHALLENGE_CONTEXT: &[u8] = b"dashfleet/challenge/1\0";
/// What the text begins with from which a token's successor is made; likewise.
const SUCCESSOR_CONTEXT: &[u8] = b"dashfleet/successor/1\0";
/// How long a challenge can be answered.
const CHALLENGE_LIFETIME: chrono::Duration = chrono::Duration::minutes(5);
/// Random bytes of a challenge, then its expiry (milliseconds, big-endian), then the signature over both.
const RANDOM: usize = 16;
const BODY: usize = RANDOM + 8;
const SIGNATURE: usize = 64;

/// Why a challenge is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeFault {
    /// Not one of ours.
    Forged,
    /// Answered too late.
    Expired,
}

/// One key.
struct SigningKey {
    pair: KeyPair,
    encoding: EncodingKey,
    jwk: Jwk,
}

impl SigningKey {
    fn from_seed(seed: &str) -> Result<Self, IdentityError> {
        let pair = KeyPair::from_seed(seed).map_err(IdentityError::internal)?;
        let (_, raw) = nkeys::decode_seed(seed).map_err(IdentityError::internal)?;
        let encoding = EncodingKey::from_ed_der(&[PKCS8_HEAD.as_slice(), &raw].concat());
        let (_, public) =
            nkeys::from_public_key(&pair.public_key()).map_err(IdentityError::internal)?;
        let x = URL_SAFE_NO_PAD.encode(public);
        // RFC 7638's thumbprint: the same key has the same id on every replica and after every start.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes()));
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x,
            kid,
            alg: "EdDSA".into(),
            usage: "sig".into(),
        };
        Ok(Self {
            pair,
            encoding,
            jwk,
        })
    }
}

/// What follows from a secret, by each key.
pub struct Successors {
    /// By the key in use.
    pub first: String,
    /// By the next one and the one before.
    pub others: Vec<String>,
}

/// Signs with the first of its keys. All are published, so a key is known before it is used and for a while after, and
/// replicas may come to a new one one by one.
pub struct Signer {
    first: SigningKey,
    others: Vec<SigningKey>,
}

impl Signer {
    /// From nkey seeds, the one in use first.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when there is none, or one is no seed.
    pub fn from_seeds<S: AsRef<str>>(seeds: &[S]) -> Result<Self, IdentityError> {
        let mut keys = seeds
            .iter()
            .map(|seed| SigningKey::from_seed(seed.as_ref()));
        let first = keys
            .next()
            .ok_or_else(|| IdentityError::internal("there is no key to sign grants with"))??;
        Ok(Self {
            first,
            others: keys.collect::<Result<_, _>>()?,
        })
    }

    fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The public keys with which grants are verified.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        Jwks {
            keys: self.keys().map(|key| key.jwk.clone()).collect(),
        }
    }

    /// A grant as it travels.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when it cannot be signed.
    pub fn grant(&self, grant: &Grant) -> Result<String, IdentityError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.first.jwk.kid.clone());
        jsonwebtoken::encode(&header, grant, &self.first.encoding).map_err(IdentityError::internal)
    }

    /// The secrets of this kind that follow from another one, by each key, that of the key in use first: the same whenever
    /// they are asked for, and nobody without the key can tell them. (Ed25519 signatures are deterministic, RFC 8032.)
    ///
    /// What is given away is the first. The others are what was given before the keys were rotated, or is by a replica that
    /// has not come to the new one.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when nothing can be signed.
    pub fn successors(&self, kind: SecretKind, secret: &str) -> Result<Successors, IdentityError> {
        let prefix = kind.prefix();
        let text = [SUCCESSOR_CONTEXT, prefix.as_bytes(), secret.as_bytes()].concat();
        let of = |key: &SigningKey| -> Result<String, IdentityError> {
            let signature = key.pair.sign(&text).map_err(IdentityError::internal)?;
            let body = URL_SAFE_NO_PAD.encode(Sha256::digest(signature));
            Ok(format!("{prefix}{body}"))
        };
        let others = self.others.iter().map(of);
        Ok(Successors {
            first: of(&self.first)?,
            others: others.collect::<Result<_, IdentityError>>()?,
        })
    }

    /// A new challenge.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when it cannot be signed.
    pub fn challenge(&self, now: Timestamp) -> Result<Challenged, IdentityError> {
        let expires_at = now.plus(CHALLENGE_LIFETIME);
        let random: [u8; RANDOM] = rand::random();
        let body = [random.as_slice(), &expires_at.millis().to_be_bytes()].concat();
        let signature = self
            .first
            .pair
            .sign(&[CHALLENGE_CONTEXT, &body].concat())
            .map_err(IdentityError::internal)?;
        let challenge = URL_SAFE_NO_PAD.encode([body, signature].concat());
        Ok(Challenged {
            challenge,
            expires_at,
            action_keys: Vec::new(),
        })
    }

    /// Checks that a challenge is one of ours and not too old.
    ///
    /// # Errors
    /// [`ChallengeFault`].
    pub fn challenge_check(&self, challenge: &str, now: Timestamp) -> Result<(), ChallengeFault> {
        let bytes = URL_SAFE_NO_PAD
            .decode(challenge)
            .map_err(|_| ChallengeFault::Forged)?;
        let (body, signature) = bytes.split_at_checked(BODY).ok_or(ChallengeFault::Forged)?;
        if signature.len() != SIGNATURE {
            return Err(ChallengeFault::Forged);
        }
        let signed = [CHALLENGE_CONTEXT, body].concat();
        if !self
            .keys()
            .any(|key| key.pair.verify(&signed, signature).is_ok())
        {
            return Err(ChallengeFault::Forged);
        }
        let expiry = body.last_chunk::<8>().copied().map(i64::from_be_bytes);
        let expiry = expiry
            .and_then(Timestamp::from_millis)
            .ok_or(ChallengeFault::Forged)?;
        if expiry < now {
            Err(ChallengeFault::Expired)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Result<String, IdentityError> {
        KeyPair::new_user().seed().map_err(IdentityError::internal)
    }

    #[test]
    fn any_replica_takes_a_challenge_in_time_and_nothing_else() -> Result<(), IdentityError> {
        let seed_of_all = [seed()?];
        let (one, two) = (
            Signer::from_seeds(&seed_of_all)?,
            Signer::from_seeds(&seed_of_all)?,
        );
        let now = Timestamp::now();
        let given = one.challenge(now)?;
        assert_eq!(two.challenge_check(&given.challenge, now), Ok(()));
        let late = now
            .plus(CHALLENGE_LIFETIME)
            .plus(chrono::Duration::milliseconds(1));
        assert_eq!(
            two.challenge_check(&given.challenge, late),
            Err(ChallengeFault::Expired)
        );
        let stranger = Signer::from_seeds(&[seed()?])?;
        let foreign = stranger.challenge(now)?.challenge;
        let flipped: String = given.challenge.chars().rev().collect();
        for wrong in ["", "x", foreign.as_str(), flipped.as_str()] {
            assert_eq!(
                one.challenge_check(wrong, now),
                Err(ChallengeFault::Forged),
                "{wrong}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_replica_that_has_rotated_and_one_that_has_not_take_each_others_word()
    -> Result<(), IdentityError> {
        let (old, new, next) = (seed()?, seed()?, seed()?);
        let before = Signer::from_seeds(&[&old, &new])?;
        let after = Signer::from_seeds(&[&new, &next, &old])?;
        let now = Timestamp::now();
        for (one, other) in [(&before, &after), (&after, &before)] {
            let given = one.challenge(now)?.challenge;
            assert_eq!(other.challenge_check(&given, now), Ok(()));
            assert!(other.jwks().keys.contains(&one.first.jwk));
        }
        assert_ne!(before.first.jwk.kid, after.first.jwk.kid);
        // What one of them gave the other finds, whichever is the older one.
        let given = |signer: &Signer| signer.successors(SecretKind::ApiKey, "the same");
        let (one, other) = (given(&before)?, given(&after)?);
        assert_ne!(one.first, other.first);
        assert!(other.others.contains(&one.first) && one.others.contains(&other.first));
        assert!(Signer::from_seeds::<&str>(&[]).is_err());
        Ok(())
    }
}

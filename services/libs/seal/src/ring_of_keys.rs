//! The keys, and what they do.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Place, SealError, Secret};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// How many secrets one key may seal, with random nonces (NIST SP 800-38D, section 8.3).
pub const SEALS_MAX: u64 = 1 << 32;
/// How much longer a sealed secret is than the secret: head, nonce and tag.
pub const OVERHEAD_BYTES: usize = HEAD + NONCE_LEN + 16;

const VERSION: u8 = 1;
const ID: usize = 8;
const HEAD: usize = 1 + ID;
/// More than a rotation ever needs, and few enough that a mistaken file is noticed.
const KEYS_MAX: usize = 16;

/// Which key sealed something: the beginning of SHA-256 of it, so that it is the same wherever the key is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

struct Key {
    id: KeyId,
    cipher: LessSafeKey,
}

/// The keys of one service: the first seals, all open.
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
    random: SystemRandom,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys().map(|key| key.id).collect();
        f.debug_tuple("KeyRing").field(&ids).finish()
    }
}

impl KeyRing {
    /// From the text of a file: one key in each line, 32 random bytes in Base64; empty lines and those that begin with `#`
    /// are passed over.
    ///
    /// # Errors
    /// [`SealError::Keys`] naming the line, never its content.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = Key::from_line(line).ok_or_else(|| {
                SealError::Keys(format!("line {number} is not {KEY_BYTES} bytes in Base64"))
            })?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(SealError::Keys(format!("line {number} repeats a key")));
            }
            keys.push(key);
        }
        if keys.len() > KEYS_MAX {
            return Err(SealError::Keys(format!(
                "there are more than {KEYS_MAX} keys"
            )));
        }
        let mut keys = keys.into_iter();
        let first = keys
            .next()
            .ok_or_else(|| SealError::Keys("there is no key".to_owned()))?;
        Ok(Self {
            first,
            others: keys.collect(),
            random: SystemRandom::new(),
        })
    }

    /// A new key, as a line of the file.
    ///
    /// # Errors
    /// [`SealError::Unsealable`] when the system gives no random numbers.
    pub fn new_line() -> Result<String, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| SealError::Unsealable)?;
        Ok(STANDARD.encode(bytes.as_slice()))
    }

    /// The key that seals.
    #[must_use]
    pub fn sealing(&self) -> KeyId {
        self.first.id
    }

    /// Seals a secret for a place.
    ///
    /// # Errors
    /// [`SealError::Unsealable`].
    pub fn seal(&self, place: &Place, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| SealError::Unsealable)?;
        let head = head(self.first.id);
        let mut sealed = Vec::with_capacity(secret.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&head);
        sealed.extend_from_slice(&nonce);
        let mut body = secret.to_vec();
        self.first
            .cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.associated(&head)),
                &mut body,
            )
            .map_err(|_| SealError::Unsealable)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`SealError`]: it is none, its key is not here, or it was changed or moved.
    pub fn open(&self, place: &Place, sealed: &[u8]) -> Result<Secret, SealError> {
        let id = sealed_with(sealed)?;
        let key = self
            .keys()
            .find(|key| key.id == id)
            .ok_or(SealError::UnknownKey(id))?;
        let (head, rest) = sealed.split_at_checked(HEAD).ok_or(SealError::Form)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Form)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Form)?;
        let mut body = body.to_vec();
        let length = key
            .cipher
            .open_in_place(nonce, Aad::from(place.associated(head)), &mut body)
            .map_err(|_| SealError::Forged)?
            .len();
        body.truncate(length);
        Ok(Secret::new(body))
    }

    /// Seals anew with the first key; `None` when that key sealed it already.
    ///
    /// # Errors
    /// As [`KeyRing::open`] and [`KeyRing::seal`].
    pub fn rewrap(&self, place: &Place, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if sealed_with(sealed)? == self.first.id {
            return Ok(None);
        }
        let secret = self.open(place, sealed)?;
        self.seal(place, secret.bytes()).map(Some)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Key {
    fn from_line(line: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let digest = Sha256::digest(bytes.as_slice());
        let id = KeyId(*digest.first_chunk()?);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        Some(Self { id, cipher })
    }
}

fn head(id: KeyId) -> [u8; HEAD] {
    let mut head = [VERSION; HEAD];
    for (to, from) in head.iter_mut().skip(1).zip(id.0) {
        *to = from;
    }
    head
}

/// Which key sealed it.
fn sealed_with(sealed: &[u8]) -> Result<KeyId, SealError> {
    match sealed.split_first() {
        Some((&VERSION, rest)) if sealed.len() >= OVERHEAD_BYTES => rest
            .first_chunk()
            .copied()
            .map(KeyId)
            .ok_or(SealError::Form),
        _ => Err(SealError::Form),
    }
}

#[cfg(test)]
mod tests {
    use domain::OrgId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn place() -> Place {
        Place {
            table: "identity.mails",
            column: "sealed",
            org: Some(OrgId::new()),
            row: Uuid::now_v7(),
        }
    }

    fn ring(lines: &[&str]) -> KeyRing {
        KeyRing::from_text(&lines.join("\n")).expect("keys")
    }

    fn line() -> String {
        KeyRing::new_line().expect("a key")
    }

    #[test]
    fn a_secret_opens_at_its_place_and_at_no_other() {
        let keys = ring(&[&line()]);
        let here = place();
        let sealed = keys.seal(&here, b"the password").expect("sealed");
        assert_eq!(
            keys.open(&here, &sealed).expect("opened").text(),
            Some("the password")
        );
        assert!(!sealed.windows(8).any(|part| part == b"password"));
        for elsewhere in [
            Place {
                row: Uuid::now_v7(),
                ..here
            },
            Place {
                org: Some(OrgId::new()),
                ..here
            },
            Place { org: None, ..here },
            Place {
                column: "other",
                ..here
            },
            Place {
                table: "identity.mail",
                ..here
            },
        ] {
            assert_eq!(
                keys.open(&elsewhere, &sealed),
                Err(SealError::Forged),
                "{elsewhere:?}"
            );
        }
        // Twice the same secret is not twice the same text.
        assert_ne!(keys.seal(&here, b"the password").expect("sealed"), sealed);
    }

    #[test]
    fn parts_of_a_place_cannot_flow_into_each_other() {
        let one = Place {
            table: "a.bc",
            column: "d",
            ..place()
        };
        let two = Place {
            table: "a.b",
            column: "cd",
            ..one
        };
        assert_ne!(one.associated(b""), two.associated(b""));
    }

    #[test]
    fn a_new_key_seals_the_old_one_still_opens_and_a_lost_one_is_named() {
        let (old, new) = (line(), line());
        let here = place();
        let before = ring(&[&old]);
        let sealed = before.seal(&here, b"x").expect("sealed");
        let both = ring(&[&new, &old]);
        assert_eq!(both.open(&here, &sealed).expect("opened").bytes(), b"x");
        let again = both
            .rewrap(&here, &sealed)
            .expect("opened")
            .expect("wrapped anew");
        assert_eq!(both.rewrap(&here, &again), Ok(None), "once is enough");
        let after = ring(&["# since today", &new, ""]);
        assert_eq!(after.open(&here, &again).expect("opened").bytes(), b"x");
        let error = after.open(&here, &sealed).expect_err("its key is gone");
        assert_eq!(error, SealError::UnknownKey(before.sealing()));
        assert!(error.to_string().contains(&before.sealing().to_string()));
    }

    #[test]
    fn a_wrong_file_is_refused_by_its_line_and_shows_nothing() {
        let good = line();
        for (text, what) in [
            (String::new(), "there is no key"),
            ("# nothing".to_owned(), "there is no key"),
            (format!("{good}\nc2VjcmV0"), "line 2"),
            (format!("{good}\n{good}"), "line 2 repeats"),
            ("no base64 at all!".to_owned(), "line 1"),
        ] {
            let error = KeyRing::from_text(&text).expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
            assert!(
                !error.contains("c2Vj") && !error.contains("base64 at"),
                "{error}"
            );
        }
        let keys = ring(&[&good]);
        assert!(!format!("{keys:?}").contains(&good));
        let secret = keys.open(&place(), b"").expect_err("nothing");
        assert_eq!(secret, SealError::Form);
    }

    proptest! {
        #[test]
        fn whatever_is_changed_is_noticed(secret: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let keys = ring(&[&line()]);
            let here = place();
            let mut sealed = keys.seal(&here, &secret).expect("sealed");
            let opened = keys.open(&here, &sealed).expect("opened");
            prop_assert_eq!(opened.bytes(), &secret[..]);
            prop_assert_eq!(sealed.len(), secret.len() + OVERHEAD_BYTES);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(keys.open(&here, &sealed).is_err());
            sealed.truncate(at);
            prop_assert!(keys.open(&here, &sealed).is_err());
        }
    }
}

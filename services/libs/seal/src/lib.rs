//! This crate is the seal of secrets at rest: what a service must be able to read again (a module's secrets, a channel's
//! password) is stored under AES-256-GCM, never plain. What need not be read again (a person's
//! password, a key) is hashed instead, and does not come here.
//!
//! A sealed secret is bound to its [`Place`]: table, column, organisation and row go into the cipher as associated data, so
//! whoever can write to the database cannot move one tenant's secret into another's row to have it read there.
//!
//! Keys are a list in one file, [`KeyRing`]: the first seals, all open. To replace a key, put a new one before it, restart
//! what reads the file, wrap anew what is stored ([`KeyRing::rewrap`]), then take the old one out.
//!
//! # Form
//!
//! `version (1 byte, 1) ‖ key id (8 bytes) ‖ nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes)`: NIST SP 800-38D, with random
//! nonces of 96 bits. By its section 8.3 a key may then seal 2³² secrets; with each of ten thousand tenants' thousand
//! secrets replaced daily, that is a year: see [`SEALS_MAX`].

mod place;
mod ring_of_keys;
mod secret;

pub use place::Place;
pub use ring_of_keys::{KEY_BYTES, KeyId, KeyRing, OVERHEAD_BYTES, SEALS_MAX};
pub use secret::Secret;

/// Why something cannot be sealed or opened. No error holds anything of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The file of keys is not as it must be; in words that name the line.
    #[error("{0}")]
    Keys(String),
    /// What is stored is no sealed secret of a version that this program knows.
    #[error("this is no sealed secret, or of a newer version of DashFleet")]
    Form,
    /// The key that sealed it is not in the file.
    #[error("it was sealed with the key {0}, which is not among the keys here")]
    UnknownKey(KeyId),
    /// It was changed, or sealed for another place.
    #[error("it was changed, or was sealed for another row")]
    Forged,
    /// The system gives no random numbers, or the text is longer than the cipher takes.
    #[error("it could not be sealed")]
    Unsealable,
}

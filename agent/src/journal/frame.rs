//! How entries are chained: `length ‖ hash ‖ payload`, where the hash covers the hash before, so that the checksum of
//! an entry vouches for everything before it.

use sha2::{Digest, Sha256};

/// A hash of the chain.
pub type Chain = [u8; 32];

/// Bytes before a payload: its length and its hash.
pub const HEADER_BYTES: usize = 4 + 32;
/// The longest payload.
pub const PAYLOAD_MAX_BYTES: usize = 512 * 1024;

/// The hash after an entry.
#[must_use]
pub fn chain(before: &Chain, payload: &[u8]) -> Chain {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    Sha256::new()
        .chain_update(before)
        .chain_update(length)
        .chain_update(payload)
        .finalize()
        .into()
}

/// Appends an entry's bytes to `buffer`; gives the hash after it.
pub fn encode(buffer: &mut Vec<u8>, before: &Chain, payload: &[u8]) -> Chain {
    let after = chain(before, payload);
    buffer.extend_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    buffer.extend_from_slice(&after);
    buffer.extend_from_slice(payload);
    after
}

/// A hash as text.
#[must_use]
pub fn hex(hash: &Chain) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash from its text.
#[must_use]
pub fn unhex(text: &str) -> Option<Chain> {
    let mut hash = Chain::default();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(hash)
}

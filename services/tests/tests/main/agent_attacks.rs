//! Somebody has a valid agent key and means ill (law L5). What may not be said or heard, the server denies; what
//! reaches a service as that machine's own word changes nothing but that machine's own.

use super::hostile::Hostile;

mod denied;
mod door;
mod effects;
mod fleet;
mod reports;
mod targets;
mod witness;

/// The server's refusals since the last look are exactly these.
pub fn refused(thief: &Hostile, expected: &[String]) {
    let refused = thief.take_errors();
    let missing: Vec<_> = expected
        .iter()
        .filter(|word| !refused.contains(word))
        .collect();
    assert!(
        missing.is_empty() && refused.len() == expected.len(),
        "not refused: {missing:#?}, of {refused:#?}"
    );
}

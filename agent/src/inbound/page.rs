//! Pages that answer `sync`.

use contract::order::{PAGE_MAX_BYTES, PAGE_PREFIX, Signed, SyncItem, SyncPage};
use uuid::Uuid;

use crate::inbound::{Identity, Refusal};

/// Verifies a page and reads it.
///
/// # Errors
/// [`Refusal`]: the first reason found.
pub fn verify(
    signed: &Signed,
    pinned: &[String],
    me: &Identity,
    nonce: Uuid,
) -> Result<SyncPage, Refusal> {
    // Twice what the server promises: a limit against floods, not a fence to stumble over.
    if signed.body.len() > 2 * PAGE_MAX_BYTES {
        return Err(Refusal::TooLong(signed.body.len()));
    }
    let body = signed
        .verify(PAGE_PREFIX, pinned)
        .map_err(Refusal::Signature)?;
    let page: SyncPage =
        serde_json::from_slice(body).map_err(|error| Refusal::Body(error.to_string()))?;
    if page.nonce != nonce {
        return Err(Refusal::Nonce);
    }
    if page.deployment != me.deployment {
        return Err(Refusal::Address("installation"));
    }
    if page.org != me.org {
        return Err(Refusal::Address("organisation"));
    }
    if page.machine != me.machine {
        return Err(Refusal::Address("machine"));
    }
    if page.fingerprint != me.fingerprint {
        return Err(Refusal::Address("enrolment of this machine"));
    }
    let ordered = page.items.windows(2).all(|pair| match pair {
        [before, after] => before.through() < first(after),
        _ => true,
    });
    if !ordered
        || page
            .items
            .iter()
            .any(|item| first(item) < 1 || first(item) > item.through())
    {
        return Err(Refusal::Shape("its items are not in the order of `seq`"));
    }
    Ok(page)
}

/// The first place that an item speaks of.
fn first(item: &SyncItem) -> i64 {
    match item {
        SyncItem::Open { task, .. } => task.seq,
        SyncItem::Ended { seq, .. } => *seq,
    }
}

//! Orders: `df.act.<org>.<machine>.<verb>`.

use contract::order::{ORDER_PREFIX, Order, Signed, Task, Verb};
use domain::Timestamp;

use crate::inbound::{Identity, Refusal};

/// The most bytes of a signed order: a payload of 64 KiB, twice encoded, and what is around it.
pub const ORDER_MAX_BYTES: usize = 256 * 1024;

/// An order that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Execute this.
    New(Box<Task>),
    /// Do not begin this.
    Cancel(Box<Task>),
    /// Look.
    Time,
    /// These keys from now on.
    Keys(Vec<String>),
}

/// Verifies an order and reads it; gives it with the time at which it was signed.
///
/// # Errors
/// [`Refusal`]: the first reason found.
pub fn verify(
    subject: &str,
    payload: &[u8],
    pinned: &[String],
    me: &Identity,
) -> Result<(Verified, Timestamp), Refusal> {
    if payload.len() > ORDER_MAX_BYTES {
        return Err(Refusal::TooLong(payload.len()));
    }
    let signed: Signed =
        serde_json::from_slice(payload).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let body = signed
        .verify(ORDER_PREFIX, pinned)
        .map_err(Refusal::Signature)?;
    let order: Order =
        serde_json::from_slice(body).map_err(|error| Refusal::Body(error.to_string()))?;
    check_address(me, &order)?;
    let came = subject.rsplit('.').next().unwrap_or_default();
    if came != order.verb.as_str() {
        return Err(Refusal::Verb {
            came: came.chars().take(32).collect(),
            says: order.verb.as_str(),
        });
    }
    let issued = order.issued_at;
    let verified = match (order.verb, order.task, order.keys) {
        (Verb::New, Some(task), None) => Verified::New(Box::new(task)),
        (Verb::Cancel, Some(task), None) => Verified::Cancel(Box::new(task)),
        (Verb::Time, None, None) => Verified::Time,
        (Verb::Keys, None, Some(keys)) => Verified::Keys(keys),
        (Verb::New | Verb::Cancel, ..) => {
            return Err(Refusal::Shape("it needs `task`, and takes no `keys`"));
        }
        (Verb::Time, ..) => return Err(Refusal::Shape("it takes neither `task` nor `keys`")),
        (Verb::Keys, ..) => return Err(Refusal::Shape("it needs `keys`, and takes no `task`")),
    };
    Ok((verified, issued))
}

fn check_address(me: &Identity, order: &Order) -> Result<(), Refusal> {
    if order.deployment != me.deployment {
        return Err(Refusal::Address("installation"));
    }
    if order.org != me.org {
        return Err(Refusal::Address("organisation"));
    }
    if order.machine != me.machine {
        return Err(Refusal::Address("machine"));
    }
    if order.fingerprint != me.fingerprint {
        return Err(Refusal::Address("enrolment of this machine"));
    }
    Ok(())
}

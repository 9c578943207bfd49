//! What this process remembers of what it signed: the last copy of each organisation that it saw committed. Whoever owns the
//! database can take copies away and write the chain anew; as long as one process remembers, the copy that does not fit is
//! put back, and says so.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::audit::SignedHead;
use domain::OrgId;

/// The same copy behind another link: for the database takes one behind each only, and somebody put another there. What
/// was signed is the same, and that it follows from nothing is the truth.
#[must_use]
pub fn apart(copy: &SignedHead) -> SignedHead {
    let prev = copy.link;
    SignedHead {
        signature: copy.signature.clone(),
        prev,
        link: copy.signature.link(&prev),
    }
}

/// How many organisations are remembered; of more nothing is.
const ORGS_MAX: usize = 65_536;

/// The last copy of each organisation.
#[derive(Debug, Default)]
pub struct Witness {
    last: Mutex<HashMap<OrgId, SignedHead>>,
}

impl Witness {
    /// The last copy of an organisation, if one is remembered.
    #[must_use]
    pub fn last(&self, org: OrgId) -> Option<SignedHead> {
        self.memory().get(&org).cloned()
    }

    /// A copy is committed. One that is not later than what is remembered changes nothing.
    pub fn saw(&self, copy: &SignedHead) {
        let head = &copy.signature.head;
        let mut memory = self.memory();
        let later = match memory.get(&head.org) {
            Some(known) => known.signature.head.seq < head.seq,
            None => memory.len() < ORGS_MAX,
        };
        if later {
            memory.insert(head.org, copy.clone());
        }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<OrgId, SignedHead>> {
        // Nothing panics while it is held; if something did, the map is still whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use contract::audit::chain::ZERO;
    use contract::audit::{Head, HeadSignature};
    use domain::Timestamp;

    use super::*;

    fn copy(org: OrgId, seq: i64, byte: u8) -> SignedHead {
        let head = Head {
            org,
            seq,
            hash: [byte; 32],
        };
        SignedHead {
            signature: HeadSignature {
                head,
                at: Timestamp::now(),
                kid: "U".into(),
                sig: vec![byte],
            },
            prev: ZERO,
            link: [byte; 32],
        }
    }

    #[test]
    fn the_latest_is_remembered_and_can_stand_apart() {
        let (witness, org) = (Witness::default(), OrgId::new());
        assert_eq!(witness.last(org), None, "nothing was seen yet");
        let (first, second, changed) = (copy(org, 3, 3), copy(org, 7, 7), copy(org, 7, 8));
        for seen in [&second, &first, &changed] {
            witness.saw(seen);
        }
        assert_eq!(witness.last(org), Some(second.clone()));
        assert_eq!(witness.last(OrgId::new()), None);
        let apart = apart(&second);
        assert_eq!(apart.signature, second.signature);
        assert!(apart.is_whole() && apart.prev != second.prev);
    }
}

//! What this process remembers of what it signed: the last copy of each organisation that it saw committed. Whoever owns the
//! database can take copies away and write the chain anew; as long as one process remembers, they cannot have another end
//! signed in its place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::audit::SignedHead;
use domain::OrgId;

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

    /// The copy that is remembered, when the latest that is stored is not it or a later one: somebody took copies away, or
    /// changed the last one.
    #[must_use]
    pub fn missed(&self, org: OrgId, stored: Option<&SignedHead>) -> Option<SignedHead> {
        let known = self.last(org)?;
        let goes_on = stored.is_some_and(|stored| {
            stored.signature.head.seq > known.signature.head.seq || *stored == known
        });
        (!goes_on).then_some(known)
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
    fn what_is_stored_must_be_what_was_seen_or_go_on_from_there() {
        let (witness, org) = (Witness::default(), OrgId::new());
        let (first, second, third) = (copy(org, 3, 3), copy(org, 7, 7), copy(org, 9, 9));
        assert_eq!(witness.missed(org, None), None, "nothing was seen yet");
        witness.saw(&second);
        witness.saw(&first);
        assert_eq!(witness.last(org), Some(second.clone()), "the latest");
        assert_eq!(witness.missed(org, Some(&second)), None);
        assert_eq!(witness.missed(org, Some(&third)), None);
        let changed = copy(org, 7, 8);
        for stored in [None, Some(&first), Some(&changed)] {
            assert_eq!(witness.missed(org, stored), Some(second.clone()));
        }
        assert_eq!(witness.missed(OrgId::new(), None), None);
    }
}

//! The key set: every machine's public key, in memory, so that neither a storm of agents nor an outage of the
//! database keeps the fleet out. It grows by changes and never forgets.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use domain::{MachineId, OrgId};
use tokio::sync::watch;

use crate::store::machine::KeyRow;

/// A machine, as the callout sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The organisation.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
    /// Whether its key is refused.
    pub revoked: bool,
    change: i64,
}

/// Public keys and whose they are.
#[derive(Debug, Default)]
pub struct KeySet {
    members: RwLock<HashMap<String, Member>>,
    loaded: watch::Sender<bool>,
}

impl KeySet {
    /// Takes a change, unless a later one was taken. Says whether it revoked a machine that was not revoked here.
    pub fn apply(&self, row: &KeyRow) -> bool {
        let member = Member {
            org: OrgId(row.org_id),
            machine: MachineId(row.id),
            revoked: row.revoked,
            change: row.change,
        };
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        match members.get_mut(&row.public_key) {
            Some(known) if known.change > member.change => false,
            Some(known) => {
                let news = member.revoked && !known.revoked;
                *known = member;
                news
            }
            None => {
                members.insert(row.public_key.clone(), member);
                member.revoked
            }
        }
    }

    /// Whose key this is.
    #[must_use]
    pub fn get(&self, public_key: &str) -> Option<Member> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.get(public_key).copied()
    }

    /// The machines that are revoked.
    #[must_use]
    pub fn revoked(&self) -> HashSet<(OrgId, MachineId)> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members
            .values()
            .filter(|member| member.revoked)
            .map(|member| (member.org, member.machine))
            .collect()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> i64 {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        i64::try_from(members.len()).unwrap_or(i64::MAX)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that the database had was taken.
    pub fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Waits until everything was taken once.
    pub async fn loaded(&self) {
        // The sender lives as long as this future.
        drop(self.loaded.subscribe().wait_for(|loaded| *loaded).await);
    }

    /// Whether everything was taken once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_earlier_change_does_not_undo_a_later_one() {
        let set = KeySet::default();
        let enrolled = KeyRow {
            org_id: Uuid::now_v7(),
            id: Uuid::now_v7(),
            public_key: "U".into(),
            revoked: false,
            change: 1,
        };
        let revoked = KeyRow {
            revoked: true,
            change: 2,
            ..enrolled.clone()
        };
        assert!(!set.apply(&enrolled));
        assert!(set.apply(&revoked));
        assert!(!set.apply(&revoked));
        assert!(!set.apply(&enrolled));
        assert_eq!(set.get("U").map(|member| member.revoked), Some(true));
        assert_eq!(set.revoked().len(), 1);
    }
}

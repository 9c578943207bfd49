//! How fast a credential may go, and the person behind it over all their sessions: made once for a grant, so that a request
//! looks nothing up.

use std::fmt;
use std::sync::Arc;

use super::Limits;
use super::bucket::{Bucket, Taken};
use super::class::Weight;

/// What is left for one credential or person.
#[derive(Debug)]
pub struct Pace {
    /// Of all requests.
    pub requests: Arc<Bucket>,
    /// Of changes, where that limit is tighter.
    pub writes: Option<Arc<Bucket>>,
    /// Of heavy ones, likewise.
    pub heavy: Option<Arc<Bucket>>,
}

impl Pace {
    fn weighed(&self, weight: Weight) -> [Option<&Arc<Bucket>>; 2] {
        [
            self.writes.as_ref().filter(|_| weight.write),
            self.heavy.as_ref().filter(|_| weight.heavy),
        ]
    }
}

/// What is left for a credential and for the person behind it.
pub struct Paces {
    limits: Arc<Limits>,
    credential: Pace,
    user: Option<Pace>,
}

impl fmt::Debug for Paces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paces").finish_non_exhaustive()
    }
}

impl Paces {
    pub(super) fn new(limits: Arc<Limits>, credential: Pace, user: Option<Pace>) -> Self {
        Self {
            limits,
            credential,
            user,
        }
    }

    /// Takes one request of this weight, and says how the limit stands that has the least left.
    pub fn take(&self, weight: Weight) -> Taken {
        let mut tightest = self.limits.take(&self.credential.requests);
        let user = self.user.as_ref();
        let others = self
            .credential
            .weighed(weight)
            .into_iter()
            .chain([user.map(|user| &user.requests)])
            .chain(user.map(|user| user.weighed(weight)).into_iter().flatten());
        for bucket in others.flatten() {
            if tightest.refused.is_some() {
                break;
            }
            tightest = tightest.tighter(self.limits.take(bucket));
        }
        tightest
    }

    /// Takes a heavy request that was taken as a light one, since only its body says what it is.
    pub fn take_heavy(&self) -> Option<Taken> {
        let user = self.user.as_ref().and_then(|user| user.heavy.as_ref());
        let buckets = self.credential.heavy.iter().chain(user);
        buckets
            .map(|bucket| self.limits.take(bucket))
            .reduce(Taken::tighter)
    }
}

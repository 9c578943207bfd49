//! How many streams are open at once: each holds a connection, a subscription and two tasks, for minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use contract::server_config::MAX_SUBSCRIPTIONS;
use domain::OrgId;
use uuid::Uuid;

use crate::error::Refused;
use crate::error::catalogue::Kind;

/// Streams of this replica.
const STREAMS_MAX: usize = 512;
/// Those of them that one organisation may have: none takes all of them.
const OF_ORG_MAX: usize = 256;
/// Those of them that one person may have, or one key.
const OF_ONE_MAX: usize = 64;

// What has no room on the bus any more is refused there after a reconnection, be it what answers come by.
const _: () = assert!(2 * STREAMS_MAX <= MAX_SUBSCRIPTIONS);

/// The streams of this replica.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// By organisations, and by people and keys.
    of: HashMap<Uuid, usize>,
}

/// A stream's place; given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    streams: Arc<Streams>,
    org: OrgId,
    one: Uuid,
}

impl Streams {
    /// Takes a place.
    ///
    /// # Errors
    /// 429 when this one, a person or a key, or the organisation has as many streams as it may; 503 when this replica has.
    pub fn take(self: &Arc<Self>, org: OrgId, one: Uuid) -> Result<Turn, Refused> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= STREAMS_MAX {
            let detail = format!("{STREAMS_MAX} streams are open here; try again");
            return Err(Refused::new(Kind::Unavailable, detail));
        }
        for (id, most, who) in [
            (one, OF_ONE_MAX, "whoever asks"),
            (org.0, OF_ORG_MAX, "the organisation"),
        ] {
            if open.of.get(&id).is_some_and(|own| *own >= most) {
                let detail = format!("{who} has {most} streams open here");
                return Err(Refused::new(Kind::RateLimited, detail));
            }
        }
        open.all += 1;
        for id in [one, org.0] {
            *open.of.entry(id).or_default() += 1;
        }
        Ok(Turn {
            streams: self.clone(),
            org,
            one,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let open = &self.streams.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        for id in [self.one, self.org.0] {
            if let Some(own) = open.of.get_mut(&id) {
                *own = own.saturating_sub(1);
                if *own == 0 {
                    open.of.remove(&id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_and_what_ends_is_given_back() {
        let streams = Arc::<Streams>::default();
        let (org, one) = (OrgId::new(), Uuid::now_v7());
        let mut turns: Vec<Turn> = (0..OF_ONE_MAX)
            .map(|_| streams.take(org, one).expect("a place"))
            .collect();
        let refused = streams.take(org, one).expect_err("too many of one");
        assert_eq!(refused.kind, Kind::RateLimited);
        while turns.len() < OF_ORG_MAX {
            turns.push(streams.take(org, Uuid::now_v7()).expect("a place"));
        }
        let refused = streams.take(org, Uuid::now_v7());
        assert_eq!(refused.expect_err("of one org").kind, Kind::RateLimited);
        let other = || streams.take(OrgId::new(), Uuid::now_v7());
        while turns.len() < STREAMS_MAX {
            turns.push(other().expect("a place"));
        }
        assert_eq!(other().expect_err("too many").kind, Kind::Unavailable);
        turns.clear();
        let open = streams.open.lock().expect("a lock");
        assert!(open.all == 0 && open.of.is_empty());
        drop(open);
        assert!(streams.take(org, one).is_ok());
    }
}

//! How many streams are open at once: each holds a connection, a subscription and two tasks, for minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::CredentialId;

use crate::error::Refused;
use crate::error::catalogue::Kind;

/// Streams of this replica.
const STREAMS_MAX: usize = 1_024;
/// Those of them that one credential may have: nobody takes all of them.
const OF_ONE_MAX: usize = 64;

/// The streams of this replica, by their credentials.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<CredentialId, usize>>,
}

/// A stream's place; given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    streams: Arc<Streams>,
    credential: CredentialId,
}

impl Streams {
    /// Takes a place.
    ///
    /// # Errors
    /// 429 when the credential has as many streams as it may; 503 when this replica has.
    pub fn take(self: &Arc<Self>, credential: CredentialId) -> Result<Turn, Refused> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= STREAMS_MAX {
            let detail = format!("{STREAMS_MAX} streams are open here; try again");
            return Err(Refused::new(Kind::Unavailable, detail));
        }
        let own = open.entry(credential).or_default();
        if *own >= OF_ONE_MAX {
            let detail = format!("this credential has {OF_ONE_MAX} streams open");
            return Err(Refused::new(Kind::RateLimited, detail));
        }
        *own += 1;
        Ok(Turn {
            streams: self.clone(),
            credential,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let open = &self.streams.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.credential) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.credential);
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
        let one = CredentialId::new();
        let mut turns: Vec<Turn> = (0..OF_ONE_MAX)
            .map(|_| streams.take(one).expect("a place"))
            .collect();
        let refused = streams.take(one).expect_err("too many of one");
        assert_eq!(refused.kind, Kind::RateLimited);
        while turns.len() < STREAMS_MAX {
            turns.push(streams.take(CredentialId::new()).expect("a place"));
        }
        let refused = streams.take(CredentialId::new()).expect_err("too many");
        assert_eq!(refused.kind, Kind::Unavailable);
        turns.clear();
        assert!(streams.open.lock().expect("a lock").is_empty());
        assert!(streams.take(one).is_ok());
    }
}

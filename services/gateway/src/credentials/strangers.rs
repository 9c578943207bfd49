//! How often those without a credential may ask what costs others work, by the neighbour that they come from.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use domain::network::neighbour;

use super::pace::{Pace, Taken};
use super::recent::Recent;

/// How many neighbours are remembered.
const NEIGHBOURS: usize = 16_384;

/// The counters.
#[derive(Debug)]
pub struct Strangers {
    per_second: u32,
    paces: Mutex<Recent<IpAddr, Pace>>,
}

impl Strangers {
    /// Counters with a limit for each neighbour and second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            paces: Mutex::new(Recent::new(NEIGHBOURS)),
        }
    }

    /// Counts one request.
    pub fn take(&self, address: IpAddr) -> Taken {
        let address = neighbour(address);
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get(&address) {
            return pace.take();
        }
        let pace = Pace::new(self.per_second);
        let taken = pace.take();
        paces.insert(address, pace);
        taken
    }
}

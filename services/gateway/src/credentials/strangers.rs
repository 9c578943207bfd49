//! How often those without a credential may ask what costs an owner work, by the neighbour that they come from.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use domain::network::neighbour;

use super::pace::{Pace, Taken};
use super::recent::Recent;

/// Requests in a second. A site behind one address may enrol a rack at once.
const REQUESTS_PER_SECOND: u32 = 200;
/// How many neighbours are remembered.
const NEIGHBOURS: usize = 16_384;

/// The counters.
#[derive(Debug)]
pub struct Strangers {
    paces: Mutex<Recent<IpAddr, Pace>>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            paces: Mutex::new(Recent::new(NEIGHBOURS)),
        }
    }
}

impl Strangers {
    /// Counts one request.
    pub fn take(&self, address: IpAddr) -> Taken {
        let address = neighbour(address);
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get(&address) {
            return pace.take();
        }
        let pace = Pace::new(REQUESTS_PER_SECOND);
        let taken = pace.take();
        paces.insert(address, pace);
        taken
    }
}

//! How many tunnels each neighbour holds: an address, or the /64 that an IPv6 host chooses its addresses from. Tunnels are
//! opened before anybody proves anything, so no neighbour gets all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use domain::network::neighbour;

/// Everybody's.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// Only neighbours that hold one: never more than there are tunnels.
    open: Mutex<HashMap<IpAddr, usize>>,
    /// How many each may hold.
    most: usize,
}

/// The place of one tunnel; it is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    neighbours: Arc<Neighbours>,
    neighbour: IpAddr,
}

impl Neighbours {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            most,
        })
    }

    /// A place for whoever is at this address; nothing when its neighbour has as many as it may. To be asked by who has
    /// room for the tunnel already.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let neighbour = neighbour(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&neighbour).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        open.insert(neighbour, count + 1);
        Some(Place {
            neighbours: self.clone(),
            neighbour,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .neighbours
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.neighbour) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.neighbour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_has_its_places_and_no_more_and_leaves_nothing_behind() {
        let neighbours = Neighbours::new(2);
        let at = |text: &str| text.parse().expect("an address");
        let first = neighbours.take(at("2001:db8::1"));
        let second = neighbours.take(at("2001:db8::ffff"));
        assert!(first.is_some() && second.is_some());
        assert!(neighbours.take(at("2001:db8::2")).is_none());
        let other = neighbours.take(at("2001:db8:0:1::1"));
        assert!(other.is_some());
        drop(first);
        let third = neighbours.take(at("2001:db8::3"));
        assert!(third.is_some());
        drop((second, third, other));
        let open = neighbours.open.lock().expect("a lock");
        assert!(open.is_empty());
    }
}

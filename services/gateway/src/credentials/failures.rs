//! Failed authentications, counted by the address that they come from.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::network::neighbour;

use super::recent::Recent;

/// Over which time failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES: usize = 65_536;

/// The counters.
#[derive(Debug)]
pub struct Failures {
    limit: u32,
    windows: Mutex<Recent<IpAddr, Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
}

impl Failures {
    /// Counters with a limit for each address and minute.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            windows: Mutex::new(Recent::new(ADDRESSES)),
        }
    }

    /// How long the address has to wait; `None` when it may try.
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.wait_at(address, Instant::now())
    }

    fn wait_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.get(&neighbour(address))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(window.began))?;
        (window.count >= self.limit && !left.is_zero()).then_some(left)
    }

    /// Counts a failure.
    pub fn count(&self, address: IpAddr) {
        self.count_at(address, Instant::now());
    }

    fn count_at(&self, address: IpAddr, now: Instant) {
        let address = neighbour(address);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.get(&address) {
            Some(window) if now.saturating_duration_since(window.began) < WINDOW => {
                window.count = window.count.saturating_add(1);
            }
            _ => windows.insert(
                address,
                Window {
                    began: now,
                    count: 1,
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_for_the_rest_of_its_minute_and_others_do_not() {
        let failures = Failures::new(3);
        let (bad, good): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(failures.wait_at(bad, start), None);
            failures.count_at(bad, start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(failures.wait_at(bad, later), Some(Duration::from_secs(40)));
        assert_eq!(failures.wait_at(good, later), None);
        assert_eq!(failures.wait_at(bad, start + WINDOW), None);
        failures.count_at(bad, start + WINDOW);
        assert_eq!(failures.wait_at(bad, start + WINDOW), None);
    }
}

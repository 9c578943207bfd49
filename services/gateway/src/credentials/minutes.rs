//! How often in a minute a legacy key may use one route, counted for each address and, where a request names one, for each
//! machine: a fleet behind one address and one key must not wait for itself.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::CredentialId;
use domain::network::neighbour;
use sha2::{Digest, Sha256};

use super::pace::Taken;
use super::recent::Recent;

const MINUTE: Duration = Duration::from_secs(60);
/// How many counters are remembered.
const COUNTERS: usize = 65_536;

type Hash = [u8; 32];

/// The counters.
#[derive(Debug)]
pub struct Minutes {
    windows: Mutex<Recent<Hash, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    count: u32,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The route.
    pub route: &'static str,
    /// The key.
    pub credential: CredentialId,
    /// Where the request comes from.
    pub address: IpAddr,
    /// The machine that it names, or nothing.
    pub machine: &'a str,
}

impl Counted<'_> {
    /// A machine's name may be long, and there are many: only a hash is kept.
    fn hash(&self) -> Hash {
        let text = format!(
            "{}\0{}\0{}\0{}",
            self.route,
            self.credential,
            neighbour(self.address),
            self.machine
        );
        Sha256::digest(text.as_bytes()).into()
    }
}

impl Default for Minutes {
    fn default() -> Self {
        Self {
            windows: Mutex::new(Recent::new(COUNTERS)),
        }
    }
}

impl Minutes {
    /// Counts one request.
    pub fn take(&self, counted: &Counted<'_>, limit: u32) -> Taken {
        self.take_at(counted, limit, Instant::now())
    }

    fn take_at(&self, counted: &Counted<'_>, limit: u32, now: Instant) -> Taken {
        let hash = counted.hash();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = windows.get(&hash).copied();
        let window = match known {
            Some(window) if now.saturating_duration_since(window.began) < MINUTE => Window {
                count: window.count.saturating_add(1),
                ..window
            },
            _ => Window {
                began: now,
                count: 1,
            },
        };
        windows.insert(hash, window);
        let left = MINUTE.saturating_sub(now.saturating_duration_since(window.began));
        let reset = left.as_millis().div_ceil(1_000);
        Taken {
            limit,
            remaining: limit.saturating_sub(window.count),
            reset_seconds: u32::try_from(reset).unwrap_or(u32::MAX),
            exceeded: window.count > limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_so_many_for_each_machine_and_the_next_one_as_many_again() {
        let (minutes, start) = (Minutes::default(), Instant::now());
        let one = Counted {
            route: "report",
            credential: CredentialId::new(),
            address: [192, 0, 2, 1].into(),
            machine: "one",
        };
        for remaining in [2, 1, 0] {
            let taken = minutes.take_at(&one, 3, start);
            assert_eq!((taken.remaining, taken.exceeded), (remaining, false));
        }
        let later = start + Duration::from_secs(20);
        let taken = minutes.take_at(&one, 3, later);
        assert_eq!((taken.exceeded, taken.reset_seconds), (true, 40));
        for other in [
            Counted {
                machine: "two",
                ..one
            },
            Counted {
                route: "pending",
                ..one
            },
            Counted {
                address: [192, 0, 2, 2].into(),
                ..one
            },
            Counted {
                credential: CredentialId::new(),
                ..one
            },
        ] {
            assert!(!minutes.take_at(&other, 3, later).exceeded, "{other:?}");
        }
        assert!(!minutes.take_at(&one, 3, start + MINUTE).exceeded);
    }
}

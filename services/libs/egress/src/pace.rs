//! How many requests a tenant makes in a second: beyond it they wait for their turn.
//!
//! A generic cell rate algorithm: for each tenant the time at which it has used up what it took.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// So many in a second, of each tenant in each process.
pub const PER_SECOND: u32 = 100;
/// So many at once.
pub const BURST: u32 = 200;
/// How many tenants are remembered; more of them in one moment share one turn.
const TENANTS_MAX: usize = 10_000;

/// The turns.
#[derive(Debug, Default)]
pub struct Pace {
    /// Only tenants that are not at rest.
    used_up: Mutex<HashMap<Uuid, Instant>>,
}

impl Pace {
    /// Takes a turn: how long to wait for it, from `now`.
    pub fn take(&self, tenant: Uuid, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / PER_SECOND;
        let mut used_up = self.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        if used_up.len() >= TENANTS_MAX && !used_up.contains_key(&tenant) {
            used_up.retain(|_, at| *at > now);
        }
        let tenant = if used_up.len() >= TENANTS_MAX && !used_up.contains_key(&tenant) {
            Uuid::nil()
        } else {
            tenant
        };
        let at = used_up.entry(tenant).or_insert(now);
        *at = (*at).max(now) + each;
        at.saturating_duration_since(now)
            .saturating_sub(each * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_evenly_and_each_tenant_has_its_own() {
        let (pace, now) = (Pace::default(), Instant::now());
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        for _ in 0..BURST {
            assert_eq!(pace.take(one, now), Duration::ZERO);
        }
        assert_eq!(pace.take(one, now), Duration::from_millis(10));
        assert_eq!(pace.take(one, now), Duration::from_millis(20));
        assert_eq!(pace.take(other, now), Duration::ZERO);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.take(one, later), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..2 * TENANTS_MAX {
            pace.take(Uuid::now_v7(), now);
        }
        let used_up = pace.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(used_up.len() <= TENANTS_MAX + 1);
    }
}

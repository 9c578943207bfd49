//! Waiting: longer after each failure, and never in step with the rest of the fleet.

use std::time::Duration;

use rand::Rng;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after so many failures before: 1 s, doubling to 30 s, of which a random part from a half on.
#[must_use]
pub fn pause(failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.min(5)).min(LONGEST);
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// A period, ten percent shorter to ten percent longer.
#[must_use]
pub fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::rng().random_range(0.9..1.1))
}

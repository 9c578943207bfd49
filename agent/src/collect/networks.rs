//! Network interfaces: what passed through them since the last look.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contract::agent::NetworkSample;

use crate::collect::per_second;
use crate::collect::watch::Watch;
use crate::platform::{self, Traffic};

/// The most interfaces of a sample: those with the most traffic.
const NETWORKS_MAX: usize = 32;
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Begins to look at them.
#[must_use]
pub fn begin() -> Watch<Vec<NetworkSample>> {
    Watch::begin("networks", LIMIT, || {
        let mut before: Option<(Instant, Vec<Traffic>)> = None;
        move || {
            let now = platform::traffic()?;
            let (seconds, counted) = match &before {
                Some((at, counted)) => (at.elapsed().as_secs_f64(), counted.as_slice()),
                None => (0.0, &[][..]),
            };
            let samples = samples(counted, &now, seconds);
            before = Some((Instant::now(), now));
            Ok(samples)
        }
    })
}

/// The rates between two looks that lie so many seconds apart. An interface that is new has passed nothing yet.
#[must_use]
pub fn samples(before: &[Traffic], now: &[Traffic], seconds: f64) -> Vec<NetworkSample> {
    let before: BTreeMap<_, _> = before
        .iter()
        .map(|traffic| (traffic.name.as_str(), traffic))
        .collect();
    let mut samples: Vec<_> = now
        .iter()
        .filter(|traffic| traffic.name != "lo")
        .map(|now| {
            let before = before.get(now.name.as_str()).copied().unwrap_or(now);
            let rate = |of: fn(&Traffic) -> u64| per_second(of(before), of(now), seconds);
            let rate_of =
                |of: fn(&Traffic) -> Option<u64>| Some(per_second(of(before)?, of(now)?, seconds));
            NetworkSample {
                name: now
                    .name
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(64)
                    .collect(),
                received: rate(|traffic| traffic.received),
                sent: rate(|traffic| traffic.sent),
                packets_received: Some(rate(|traffic| traffic.packets_received)),
                packets_sent: Some(rate(|traffic| traffic.packets_sent)),
                receive_errors: Some(rate(|traffic| traffic.receive_errors)),
                send_errors: Some(rate(|traffic| traffic.send_errors)),
                receive_drops: rate_of(|traffic| traffic.receive_drops),
                send_drops: rate_of(|traffic| traffic.send_drops),
            }
        })
        .collect();
    if samples.len() > NETWORKS_MAX {
        samples.sort_by(|a, b| (b.received + b.sent).total_cmp(&(a.received + a.sent)));
        samples.truncate(NETWORKS_MAX);
    }
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    samples
}

//! What replicas tell each other of what they took. Nothing is kept for later: what was not heard lets a little more through
//! once, and after the bus was away nobody is told of what was taken meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::Envelope;
use contract::envelope::version_accepted;
use contract::rate::{RateTaken, SUBJECT, VERSION};
use futures::StreamExt;
use runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use super::Limits;
use crate::metrics::{Metrics, RateOutcome};

/// How often the others are told.
const INTERVAL: Duration = Duration::from_millis(50);
/// The most subjects of one message.
const SHARES_MAX: usize = 2_048;
/// The longest message that is read.
const MESSAGE_MAX_BYTES: usize = 512 * 1024;
/// How long to wait before subscribing again.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells and hears until the shutdown begins.
pub fn start(bus: &Bus, limits: &Arc<Limits>, shutdown: &Shutdown) {
    let (teller, ours) = (bus.clone(), limits.clone());
    shutdown.spawn_until_begun(async move { tell(&teller, &ours).await });
    let (bus, limits) = (bus.clone(), limits.clone());
    shutdown.spawn_until_begun(async move { hear(&bus, &limits).await });
}

async fn tell(bus: &Bus, limits: &Limits) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = limits.untold(SHARES_MAX);
        // Said to nobody it would be kept by the client and come late, as if it had just happened.
        if taken.is_empty() || !bus.is_connected() {
            continue;
        }
        let body = RateTaken {
            replica: limits.replica,
            taken,
        };
        let said = match serde_json::to_vec(&Envelope::new(VERSION, None, body)) {
            Ok(payload) => bus.publish(SUBJECT.to_owned(), payload).await,
            Err(error) => {
                tracing::error!(%error, "what was taken cannot be said");
                continue;
            }
        };
        match said {
            Ok(()) => limits.metrics.rate_message(RateOutcome::Told),
            Err(error) => tracing::debug!(%error, "the other replicas are not told"),
        }
    }
}

async fn hear(bus: &Bus, limits: &Limits) {
    loop {
        match bus.subscribe(SUBJECT).await {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    count(&limits.metrics, take(limits, &message.payload));
                }
            }
            Err(error) => tracing::debug!(%error, "the other replicas are not heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn count(metrics: &Metrics, heard: Option<bool>) {
    match heard {
        Some(true) => metrics.rate_message(RateOutcome::Heard),
        Some(false) => metrics.rate_message(RateOutcome::Ignored),
        None => {}
    }
}

/// Takes what a message says; whether it made sense, and nothing for one of our own.
pub(super) fn take(limits: &Limits, payload: &[u8]) -> Option<bool> {
    if payload.len() > MESSAGE_MAX_BYTES {
        return Some(false);
    }
    let Ok(message) = serde_json::from_slice::<Envelope<RateTaken>>(payload) else {
        return Some(false);
    };
    if message.body.replica == limits.replica {
        return None;
    }
    let taken = &message.body.taken;
    if !version_accepted(VERSION, message.v) || taken.len() > SHARES_MAX {
        return Some(false);
    }
    let understood = taken.iter().filter(|share| limits.heard(share)).count();
    Some(understood == taken.len())
}

//! Events of machines, from other replicas: a bell for the key set. What they say is not believed: others may
//! publish on these subjects too.

use std::sync::Arc;

use bus::Bus;
use futures::StreamExt;

use crate::app::App;

/// What identity itself publishes about machines and the key set must know; an edit changes no key.
const VERBS: [&str; 4] = ["enrolled", "revoked", "quarantined", "released"];

/// Rings for ever.
pub async fn run(bus: Bus, app: Arc<App>) {
    let mut events = match bus.subscribe("df.evt.*.machine.*").await {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "other replicas are not heard; the key set is polled");
            return;
        }
    };
    while let Some(event) = events.next().await {
        if event
            .subject
            .rsplit('.')
            .next()
            .is_some_and(|verb| VERBS.contains(&verb))
        {
            app.feed.ring();
        }
    }
}

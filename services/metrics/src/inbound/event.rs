//! Events of identity's machines: each only says "look".

use std::sync::Arc;

use contract::streams::CONSUMERS;

use crate::app::App;

/// What identity says of machines; our own `online` and `offline` come the same way and are nothing new.
const VERBS: [&str; 5] = ["enrolled", "edited", "revoked", "quarantined", "released"];

/// Hears them for ever. The cursor of the mirror, not the acknowledgement, is what keeps a change from being lost.
pub async fn run(app: Arc<App>) {
    let Some(spec) = CONSUMERS
        .iter()
        .find(|spec| spec.name == contract::metrics::SERVICE)
    else {
        tracing::error!("the contract has no consumer for this service");
        return;
    };
    let mut consumer = app.bus.consume(spec);
    loop {
        let delivery = consumer.next().await;
        if delivery.event.noun == "machine" && VERBS.contains(&delivery.event.verb.as_str()) {
            app.mirror.wake();
        }
        delivery.ack().await;
    }
}

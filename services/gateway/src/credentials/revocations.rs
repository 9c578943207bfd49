//! Hearing what identity says about credentials, so that what was revoked is not used a second longer.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusState};
use contract::Envelope;
use contract::event::Event;
use domain::CredentialId;
use futures::StreamExt;
use runtime::Shutdown;

use super::{Credentials, Doubt};

/// What is heard: keys, people with their sessions, and organisations, which may be closed.
const PATTERNS: [&str; 3] = [
    "df.evt.*.key.*",
    "df.evt.*.user.*",
    "df.evt.*.organization.*",
];
/// How long to wait before subscribing again.
const PAUSE: Duration = Duration::from_millis(250);

/// Listens until the shutdown begins.
pub fn listen(bus: &Bus, credentials: &Arc<Credentials>, shutdown: &Shutdown) {
    for pattern in PATTERNS {
        let (bus, credentials) = (bus.clone(), credentials.clone());
        shutdown.spawn_until_begun(async move { hear(&bus, &credentials, pattern).await });
    }
    let (state, credentials) = (bus.state(), credentials.clone());
    shutdown.spawn_until_begun(async move { reconnections(state, &credentials).await });
}

async fn hear(bus: &Bus, credentials: &Credentials, pattern: &str) {
    loop {
        match bus.subscribe(pattern).await {
            Ok(mut events) => {
                while let Some(message) = events.next().await {
                    match serde_json::from_slice::<Envelope<Event>>(&message.payload) {
                        Ok(envelope) => apply(credentials, &envelope.body),
                        Err(error) => {
                            tracing::warn!(subject = message.subject, %error, "an event cannot be read");
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(pattern, %error, "revocations are not heard for now"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn apply(credentials: &Credentials, event: &Event) {
    let named = event
        .data
        .get("credential")
        .and_then(|id| id.as_str())
        .and_then(|id| id.parse::<CredentialId>().ok());
    match (event.verb.as_str(), named) {
        // A new key or person changes nothing about those that are known.
        ("created" | "joined", _) => {}
        ("revoked", Some(credential)) => credentials.revoke(credential),
        // Something else about a person's or key's rights: ask again before the next use.
        _ => credentials.doubt(Doubt::Organization(event.org)),
    }
}

/// What was said while we were away was not heard: after each return, ask again.
async fn reconnections(
    mut state: tokio::sync::watch::Receiver<BusState>,
    credentials: &Credentials,
) {
    loop {
        if let BusState::Connected(number) = *state.borrow_and_update()
            && number > 1
        {
            credentials.doubt(Doubt::All);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

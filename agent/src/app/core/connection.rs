//! What the state of the connection asks for: a greeting when it is there, words when it is refused.

use std::sync::Arc;
use std::time::Duration;

use bus::BusState;

use crate::app::core::{Core, Event, tell};
use crate::app::uplink::Uplink;
use crate::state::revocation::Revocation;

/// Why a key is refused is asked again after this time.
const STANDING_AGAIN: Duration = Duration::from_secs(30);
/// A refused key is mentioned again after this time.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);

impl Core {
    pub(super) fn follow_bus(&mut self) {
        let state = self.state.borrow_and_update().clone();
        match state {
            BusState::Connected(n) if n != self.connection => {
                self.connection = n;
                self.refused_said = None;
                self.connected();
            }
            BusState::Refused(words) => {
                self.say_refused(&words);
                self.ask_standing();
            }
            BusState::Connected(_) | BusState::Connecting | BusState::Closed => {}
        }
        self.note_standing();
    }

    fn say_refused(&mut self, words: &str) {
        let now = self.moment().boot;
        if self
            .refused_said
            .is_none_or(|said| now >= said + REFUSED_AGAIN)
        {
            self.refused_said = Some(now);
            tracing::error!(
                words,
                "the server refuses this machine's key: it was revoked, or the server does not know it; nothing is \
                 executed and nothing is reported meanwhile. The agent keeps trying, in case that changes. To use the \
                 machine again after a revocation, enrol it anew with an empty state folder"
            );
        }
    }

    /// The bus says no more than that it refuses: the server knows why.
    fn ask_standing(&mut self) {
        let now = self.moment().boot;
        if self
            .standing_at
            .is_some_and(|asked| now < asked + STANDING_AGAIN)
        {
            return;
        }
        self.standing_at = Some(now);
        let (door, events) = (Arc::clone(&self.parts.door), self.events.0.clone());
        tokio::spawn(async move {
            let standing = crate::enroll::standing(&door.0, &door.1).await;
            tell(&events, Event::Standing(standing)).await;
        });
    }

    fn connected(&mut self) {
        // Whoever is let in is not revoked, whatever was heard before.
        if let Err(error) = Revocation::forget(&self.parts.folder) {
            tracing::warn!(%error, "that the key was revoked stays noted");
        }
        self.outbox.reconnected(self.moment().boot);
        self.sync.reconnected();
        if let Some(greeting) = self.greeting.take() {
            greeting.abort();
        }
        let uplink = self.uplink();
        let keeper = Arc::clone(&self.parts.inventory);
        self.greeting = Some(tokio::spawn(uplink.inventory(keeper)));
    }

    fn uplink(&self) -> Uplink {
        Uplink {
            bus: self.parts.bus.clone(),
            org: self.parts.me.org,
            machine: self.parts.me.machine,
        }
    }
}

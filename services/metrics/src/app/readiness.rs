//! Whether the service can do its work, and what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::system::SystemBus;
use bus::{Bus, BusState};
use tokio::sync::watch;

use crate::app::App;

/// How often the database is asked whether it is there.
const ASK: Duration = Duration::from_secs(1);

/// What the service needs.
#[derive(Debug)]
pub struct Readiness {
    bus: watch::Receiver<BusState>,
    system: watch::Receiver<BusState>,
    database: AtomicBool,
    mirror: AtomicBool,
    answering: AtomicBool,
}

impl Readiness {
    /// Nothing is there yet.
    #[must_use]
    pub fn new(bus: &Bus, system: &SystemBus) -> Self {
        Self {
            bus: bus.state(),
            system: system.bus().state(),
            database: AtomicBool::new(false),
            mirror: AtomicBool::new(false),
            answering: AtomicBool::new(false),
        }
    }

    /// Identity's machines have been read to the end once.
    pub fn mirror_loaded(&self) {
        self.mirror.store(true, Ordering::Relaxed);
    }

    /// The server has taken the subscriptions: who asks is heard.
    pub fn answering(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    /// What is missing; `None` when nothing is.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let connected =
            |state: &watch::Receiver<BusState>| matches!(*state.borrow(), BusState::Connected(_));
        let missing: Vec<_> = [
            (connected(&self.bus), "the bus"),
            (connected(&self.system), "the bus' system account"),
            (self.database.load(Ordering::Relaxed), "the database"),
            (self.mirror.load(Ordering::Relaxed), "identity's machines"),
            (self.answering.load(Ordering::Relaxed), "its subscriptions"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect();
        (!missing.is_empty()).then(|| format!("waiting for {}", missing.join(", ")))
    }
}

/// Asks the database again and again.
pub async fn run(app: Arc<App>) {
    loop {
        app.readiness
            .database
            .store(app.pools.answers().await, Ordering::Relaxed);
        tokio::time::sleep(ASK).await;
    }
}

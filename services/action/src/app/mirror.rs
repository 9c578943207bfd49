//! Machines as identity knows them and metrics sees them: both feeds are polled from a cursor, events only ring.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::MachineChanges;
use contract::metrics::{PresenceGet, Transport};
use contract::order::fingerprint;
use contract::streams::CONSUMERS;
use domain::Timestamp;
use tokio::sync::Notify;

use crate::app::App;
use crate::error::ActionError;
use crate::store::machine::{self, Mirrored};

/// How often the feeds are read when nobody rings.
const POLL: Duration = Duration::from_secs(1);
/// How long an owner may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How many items a page has.
const PAGE: u32 = 500;
const MACHINES: &str = "machines";
const PRESENCE: &str = "presence";

/// Wakes the followers.
#[derive(Debug, Default)]
pub struct Doorbell {
    bell: Notify,
    // Pages are applied one at a time, so that a cursor never goes back.
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// Reads both feeds for ever.
pub async fn follow(app: Arc<App>) {
    loop {
        if let Err(error) = app.mirror_now().await {
            tracing::debug!(%error, "the mirror of machines waits");
        }
        if let Err(error) = app.presence_now().await {
            tracing::debug!(%error, "the mirror of presence waits");
        }
        let _rung = tokio::time::timeout(POLL, app.mirror.bell.notified()).await;
    }
}

/// Hears events for ever. Whatever they say, the owners are asked; so an event is acknowledged at once.
pub async fn listen(app: Arc<App>) {
    let Some(spec) = CONSUMERS
        .iter()
        .find(|spec| spec.name == contract::action::SERVICE)
    else {
        return;
    };
    let mut events = app.bus.consume(spec);
    loop {
        events.next().await.ack().await;
        app.mirror.bell.notify_one();
    }
}

impl App {
    /// Reads identity's feed to its end.
    ///
    /// # Errors
    /// UNAVAILABLE when identity or the database is away.
    pub async fn mirror_now(&self) -> Result<(), ActionError> {
        let _turn = self.mirror.one_at_a_time.lock().await;
        loop {
            let after = machine::cursor_get(self.pools.system(), MACHINES).await?;
            let mut page = self
                .bus
                .service_call(&MachineChanges { after, limit: PAGE }, None, CALL_TIMEOUT)
                .await?;
            let Some(last) = page.items.last().map(|record| record.change) else {
                return Ok(());
            };
            // Whoever locks many machines does it in the order of their ids. Changes of one machine keep theirs.
            page.items
                .sort_by_key(|record| (record.org, record.machine_id));
            let now = Timestamp::now().utc();
            let (mut ended, mut released) = (Vec::new(), Vec::new());
            let mut tx = self.pools.system_tx().await?;
            for record in &page.items {
                let mirrored = Mirrored {
                    org: record.org,
                    machine: record.machine_id,
                    fingerprint: match record.transport {
                        Transport::Nats => fingerprint(&record.public_key),
                        Transport::Http => String::new(),
                    },
                    change: record.change,
                    releases: record.releases,
                    revoked_at: record.revoked_at.map(Timestamp::utc),
                    quarantined_at: record.quarantined_at.map(Timestamp::utc),
                    quarantine_reason: record.quarantine_reason.clone(),
                    transport: record.transport,
                    legacy: record.legacy.clone(),
                };
                let mirroring = machine::machine_mirror_in_tx(&mut tx, &mirrored, now).await?;
                ended.extend(mirroring.ended);
                if mirroring.released {
                    released.push(mirrored);
                }
            }
            machine::cursor_set_in_tx(&mut tx, MACHINES, last).await?;
            self.end_in_tx(tx, &ended).await?;
            for machine in released {
                self.ring_for_sync(machine.org, machine.machine, &machine.fingerprint)
                    .await;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn presence_now(&self) -> Result<(), ActionError> {
        loop {
            let after = machine::cursor_get(self.pools.system(), PRESENCE).await?;
            let mut page = self
                .bus
                .service_call(&PresenceGet { after, limit: PAGE }, None, CALL_TIMEOUT)
                .await?;
            let Some(last) = page.items.last().map(|presence| presence.version) else {
                return Ok(());
            };
            page.items
                .sort_by_key(|presence| (presence.org, presence.machine_id));
            let now = Timestamp::now().utc();
            let mut tx = self.pools.system_tx().await?;
            for presence in &page.items {
                machine::presence_set_in_tx(
                    &mut tx,
                    presence.org,
                    presence.machine_id,
                    presence.online,
                    presence.version,
                    now,
                )
                .await?;
            }
            machine::cursor_set_in_tx(&mut tx, PRESENCE, last).await?;
            tx.commit().await?;
            if !page.more {
                return Ok(());
            }
        }
    }
}

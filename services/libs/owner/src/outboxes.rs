//! What leaves a service besides its answers: events, the audit's entries, and what users were refused, each through an outbox
//! in the service's own schema.

use bus::{Bus, Denials};
use contract::audit::AuditEntry;
use contract::event::Event;
use database::{AuditRelay, AuditRow, DatabaseError, NotHanded, OutboxRow, Pools, Relay};

/// The outboxes of a service. Clones share them.
#[derive(Clone)]
pub struct Outboxes {
    schema: &'static str,
    bus: Bus,
    pools: Pools,
    /// Woken after a commit that left an event.
    pub relay: Relay,
    /// Woken after a commit that left an audit entry.
    pub audit_relay: AuditRelay,
    /// What users were refused.
    pub denials: Denials,
}

impl Outboxes {
    /// The outboxes in a schema, which nobody relays yet.
    #[must_use]
    pub fn new(schema: &'static str, bus: &Bus, pools: &Pools) -> Self {
        Self {
            schema,
            bus: bus.clone(),
            pools: pools.clone(),
            relay: Relay::new(),
            audit_relay: AuditRelay::new(),
            denials: Denials::new(),
        }
    }

    /// Publishes events, for ever. Dropping the future ends it at any point.
    pub async fn events_run(self) {
        let (system, bus) = (self.pools.system().clone(), self.bus);
        let publish = move |row| publish(bus.clone(), row);
        self.relay.run(system, self.schema, publish).await;
    }

    /// Hands entries of the audit to identity, for ever, likewise.
    pub async fn audit_run(self) {
        let (system, bus) = (self.pools.system().clone(), self.bus);
        let hand = move |rows| hand(bus.clone(), rows);
        self.audit_relay.run(system, self.schema, hand).await;
    }

    /// Writes down what users were refused, for ever, likewise.
    pub async fn denials_run(self) {
        let denials = self.denials.clone();
        let write = move |entries| self.clone().denials_write(entries);
        denials.run(write).await;
    }

    /// Writes down all that is left of it, once: the service ends.
    pub async fn denials_flush(&self) {
        let outboxes = self.clone();
        let write = move |entries| outboxes.clone().denials_write(entries);
        self.denials.flush(write).await;
    }

    async fn denials_write(self, entries: Vec<AuditEntry>) -> Result<(), DatabaseError> {
        AuditRow::write_all(&audit_rows(entries)?, self.schema, &self.pools).await?;
        self.audit_relay.wake();
        Ok(())
    }
}

/// Entries of the audit, as they lie in an outbox.
///
/// # Errors
/// [`DatabaseError::Bug`] when one cannot be encoded.
pub fn audit_rows(entries: Vec<AuditEntry>) -> Result<Vec<AuditRow>, DatabaseError> {
    let stored = entries.into_iter().map(AuditEntry::stored);
    let rows: Result<_, _> = stored.map(|stored| stored.map(AuditRow::from)).collect();
    rows.map_err(|error| DatabaseError::Bug(error.to_string()))
}

async fn hand(bus: Bus, rows: Vec<AuditRow>) -> Result<Vec<Option<String>>, NotHanded> {
    let entries = rows.iter().map(|row| row.entry.as_str());
    Ok(bus.audit_hand(entries).await?)
}

async fn publish(bus: Bus, row: OutboxRow) -> Result<(), String> {
    let event = Event {
        id: row.id,
        org: row.org,
        noun: row.noun,
        verb: row.verb,
        subject_id: row.subject_id,
        version: row.version,
        at: row.at,
        data: row.data,
    };
    bus.publish_event(&event)
        .await
        .map_err(|error| error.to_string())
}

//! Who did what, on its way to identity: entries ride this service's outbox.

use contract::audit::AuditEntry;
use contract::job::SERVICE;
use database::{AuditRow, DatabaseError, NotHanded, Tx};

use crate::app::App;

/// Writes an entry in the transaction of what it tells of.
///
/// # Errors
/// [`DatabaseError`].
pub async fn note_in_tx(tx: &mut Tx, entry: AuditEntry) -> Result<(), DatabaseError> {
    let stored = entry.stored();
    let row: AuditRow = stored
        .map_err(|error| DatabaseError::Bug(error.to_string()))?
        .into();
    row.insert_in_tx(SERVICE, tx).await
}

impl App {
    /// Writes refused attempts into the outbox.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn denials_write(&self, entries: Vec<AuditEntry>) -> Result<(), DatabaseError> {
        let stored = entries.into_iter().map(AuditEntry::stored);
        let rows: Result<Vec<AuditRow>, _> = stored.map(|stored| stored.map(Into::into)).collect();
        let rows = rows.map_err(|error| DatabaseError::Bug(error.to_string()))?;
        AuditRow::write_all(&rows, SERVICE, &self.pools).await?;
        self.audit_relay.wake();
        Ok(())
    }

    /// Hands rows of the outbox to identity.
    ///
    /// # Errors
    /// [`NotHanded`].
    pub async fn audit_hand(&self, rows: Vec<AuditRow>) -> Result<Vec<Option<String>>, NotHanded> {
        let entries = rows.iter().map(|row| row.entry.as_str());
        Ok(self.bus.audit_hand(entries).await?)
    }
}

//! What users were refused, on its way into identity's audit. (Nothing here is changed on a user's behalf: what machines
//! tell of themselves is no audit's business.)

use contract::audit::AuditEntry;
use contract::metrics::SERVICE;
use database::{AuditRow, DatabaseError, NotHanded};

use crate::app::App;

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

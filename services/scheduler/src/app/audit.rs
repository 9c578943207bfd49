//! Who did what, on its way to identity: entries ride this service's outbox.

use contract::audit::AuditEntry;
use contract::job::SERVICE;
use database::{AuditRow, DatabaseError, Tx};

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

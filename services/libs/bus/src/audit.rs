//! A service's way of handing audit entries to identity.

use std::time::Duration;

use contract::audit::{AuditAppend, AuditVerdict};

use crate::connection::Bus;

/// How long identity may take to commit.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Bus {
    /// Hands over entries as they lie in an outbox; identity answers after its commit. For each: nothing when identity has
    /// it, or why it does not take it.
    ///
    /// # Errors
    /// Whether they are refused as a whole (at least one is not what identity takes; else they are to be handed over
    /// again), and why.
    pub async fn audit_hand<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Option<String>>, (bool, String)> {
        let append = AuditAppend::read(entries).map_err(|reason| (true, reason))?;
        match self.service_call(&append, None, TIMEOUT).await {
            Ok(appended) => Ok(appended
                .items
                .into_iter()
                .map(AuditVerdict::refusal)
                .collect()),
            Err(problem) => Err((problem.is_lasting(), problem.to_string())),
        }
    }
}

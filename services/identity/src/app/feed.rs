//! Keeping the key set fresh: every change of a machine, once a second from the database, at once when somebody
//! rings. A bell only says "look": what is true stands in the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use database::DatabaseError;
use domain::{MachineId, OrgId};
use tokio::sync::Notify;

use crate::app::App;
use crate::store;

/// How often to look when nobody rings.
const POLL: Duration = Duration::from_secs(1);
/// Bells that ring within this time are one.
const PAUSE: Duration = Duration::from_millis(5);
/// How long one look may take before the database counts as away.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// How many changes are read at once.
const PAGE: i64 = 5_000;

/// The bell, and how the last look went.
#[derive(Debug, Default)]
pub struct Feed {
    bell: Notify,
    answers: AtomicBool,
}

impl Feed {
    /// Something changed: look now.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Whether the database answered the last look.
    #[must_use]
    pub fn database_answers(&self) -> bool {
        self.answers.load(Ordering::Acquire)
    }
}

impl App {
    /// Looks for ever. While the database is away the key set stays as it is.
    pub async fn feed_run(self: Arc<Self>) {
        let mut cursor = 0;
        loop {
            let looked = tokio::time::timeout(LOOK_MAX, self.feed_look(&mut cursor)).await;
            let outcome = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            let answered = self.feed.answers.swap(outcome.is_none(), Ordering::AcqRel);
            match outcome {
                Some(error) if answered => {
                    tracing::warn!(error, "the database is away; the known keys stay");
                }
                Some(error) => tracing::debug!(error, "the database is still away"),
                None if !answered => {
                    tracing::info!(machines = self.keys.len(), "the machines' keys are fresh");
                }
                None => {}
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.feed.bell.notified() => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Reads all changes after the cursor. The cursor moves with what was taken, so that a look that is cut short
    /// goes on where it was.
    async fn feed_look(self: &Arc<Self>, cursor: &mut i64) -> Result<(), DatabaseError> {
        loop {
            let rows = store::machine::keys(self.pools.system(), *cursor, PAGE).await?;
            let full = rows.len() as i64 == PAGE;
            for row in &rows {
                // What was revoked before this process began is swept, not kicked one by one.
                if self.keys.apply(row) && self.keys.is_loaded() {
                    self.kick(OrgId(row.org_id), MachineId(row.id));
                }
                *cursor = row.change;
            }
            if !rows.is_empty() {
                self.metrics.key_set.set(self.keys.len());
            }
            if !full {
                self.keys.set_loaded();
                return Ok(());
            }
        }
    }
}

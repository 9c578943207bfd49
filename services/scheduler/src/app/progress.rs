//! How far executions are, by their handlers' word. It comes with the renewal of a lease, which it must neither delay nor
//! fail: it is written behind the answer, and lost with the process, or where too much of it waits. The next word is not far.

use std::sync::Arc;

use contract::Problem;
use contract::run::{ITEMS_MAX, RunProgress};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::finish::storable;
use crate::store::session;

/// How many messages' words are in memory until they are written, each of a message's length at most. Those of one more are
/// dropped.
const KEPT_MAX: usize = 32;
/// How many of them are written at once: renewals need connections too.
const WRITES_AT_ONCE: usize = 2;
/// The longest word on how far an execution is, in bytes of its JSON text.
const PROGRESS_MAX_BYTES: usize = 4 * 1024;

/// What bounds the writing.
#[derive(Debug)]
pub struct Progress {
    kept: Arc<Semaphore>,
    writes: Semaphore,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            kept: Arc::new(Semaphore::new(KEPT_MAX)),
            writes: Semaphore::new(WRITES_AT_ONCE),
        }
    }
}

/// Whether a message may have so many words.
pub(crate) fn check(items: &[RunProgress]) -> Result<(), Problem> {
    if items.len() > ITEMS_MAX {
        let text = format!("has {} items; at most {ITEMS_MAX}", items.len());
        return Err(Problem::invalid("progress", text));
    }
    Ok(())
}

impl App {
    /// Has it written that handlers said so, and shown. An older word comes after a newer one only where a write took longer
    /// than it is from one renewal to the next; the word after them puts it right.
    pub(crate) fn progress_later(self: &Arc<Self>, session: Uuid, items: Vec<RunProgress>) {
        if items.is_empty() {
            return;
        }
        let Ok(kept) = self.progress.kept.clone().try_acquire_owned() else {
            tracing::debug!(%session, "too much progress waits to be written: this is dropped");
            return;
        };
        tokio::spawn(self.clone().progress_write(session, items, kept));
    }

    async fn progress_write(
        self: Arc<Self>,
        session: Uuid,
        items: Vec<RunProgress>,
        _kept: OwnedSemaphorePermit,
    ) {
        // It is never closed.
        let Ok(_turn) = self.progress.writes.acquire().await else {
            return;
        };
        if let Err(error) = self.progress_put(session, items).await {
            tracing::debug!(%session, %error, "progress was not written");
        }
    }

    async fn progress_put(
        &self,
        session: Uuid,
        items: Vec<RunProgress>,
    ) -> Result<(), SchedulerError> {
        let rows: Vec<_> = items
            .into_iter()
            .filter(|item| item.progress.to_string().len() <= PROGRESS_MAX_BYTES)
            .map(|RunProgress { place, progress }| {
                let progress = storable(progress);
                (
                    place.org.0,
                    place.id.0,
                    place.attempt,
                    place.token,
                    progress,
                )
            })
            .collect();
        let put = session::progress_put(self.pools.system(), session, &rows).await?;
        for (org, execution, progress) in put {
            let shown = json!({ "id": execution, "status": "RUNNING", "progress": progress });
            self.show(org.into(), execution, shown).await;
        }
        Ok(())
    }
}

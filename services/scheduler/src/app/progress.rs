//! How far executions are, by their handlers' word. It comes with the renewal of a lease, which it must not fail: it is written
//! after the renewal's commit and before its answer, which says when some of it was not. Nobody keeps it meanwhile but the worker,
//! which says it again.

use std::time::Duration;

use contract::Problem;
use contract::run::{ITEMS_MAX, RunProgress};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::finish::storable;
use crate::store::session::{self, Word};

/// How long the writing may take. A lease counts from when it was asked for, so an answer that is so much later costs nothing.
const WRITING_MAX: Duration = Duration::from_secs(1);
/// How often it is tried: a row that changed meanwhile is left, and one that somebody holds.
const TRIES: usize = 2;
/// The longest word on how far an execution is, in bytes of its JSON text.
const PROGRESS_MAX_BYTES: usize = 4 * 1024;

/// Whether a message may have so many words.
pub(crate) fn check(items: &[RunProgress]) -> Result<(), Problem> {
    if items.len() > ITEMS_MAX {
        let text = format!("has {} items; at most {ITEMS_MAX}", items.len());
        return Err(Problem::invalid("progress", text));
    }
    Ok(())
}

impl App {
    /// Writes what handlers said, and shows it; `false` when some of it is not written and is still of use.
    pub(crate) async fn progress_write(&self, session: Uuid, items: Vec<RunProgress>) -> bool {
        if items.is_empty() {
            return true;
        }
        match timeout(WRITING_MAX, self.progress_put(session, items)).await {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => {
                tracing::debug!(%session, %error, "progress is not written");
                false
            }
            Err(_) => {
                tracing::debug!(%session, "progress is not written in time");
                false
            }
        }
    }

    async fn progress_put(
        &self,
        session: Uuid,
        items: Vec<RunProgress>,
    ) -> Result<bool, SchedulerError> {
        let mut left: Vec<Word> = items
            .into_iter()
            .filter(|item| item.progress.to_string().len() <= PROGRESS_MAX_BYTES)
            .map(|item| Word {
                progress: storable(item.progress),
                place: item.place,
            })
            .collect();
        for _ in 0..TRIES {
            let found = session::progress_put(self.pools.system(), session, &left).await?;
            let (put, missed): (Vec<Word>, Vec<Word>) = left
                .into_iter()
                .filter(|word| found.meant.contains(&word.place.id.0))
                .partition(|word| found.put.contains(&word.place.id.0));
            self.progress_show(&put).await;
            if missed.is_empty() {
                return Ok(true);
            }
            left = missed;
        }
        Ok(false)
    }

    /// Without a status: by now a finish may have been committed, and shown.
    async fn progress_show(&self, put: &[Word]) {
        for word in put {
            let shown = json!({ "id": word.place.id, "progress": word.progress });
            self.show(word.place.org, word.place.id.0, shown).await;
        }
    }
}

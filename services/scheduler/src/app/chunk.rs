//! What handlers log: kept, and told to those who look on.

use std::collections::HashSet;

use contract::Problem;
use contract::run::{FinishVerdict, LogChunk, RunLog, RunLogged};
use domain::execution::{LOG_LINE_MAX_BYTES, LOG_MAX_BYTES};
use serde_json::json;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::chunk;

/// The most chunks of one message.
const CHUNKS_MAX: usize = 128;

impl App {
    /// Keeps lines of attempts.
    ///
    /// # Errors
    /// INVALID naming the field; UNAVAILABLE: the worker says it again.
    pub async fn run_log(&self, request: RunLog) -> Result<RunLogged, SchedulerError> {
        if request.items.len() > CHUNKS_MAX {
            let text = format!("has {} items; at most {CHUNKS_MAX}", request.items.len());
            return Err(Problem::invalid("items", text).into());
        }
        let mut places = HashSet::new();
        for (index, item) in request.items.iter().enumerate() {
            check(index, item)?;
            if !places.insert((item.place, item.first)) {
                let path = format!("items[{index}].first");
                return Err(Problem::invalid(path, "is there twice").into());
            }
        }
        let chunks: Vec<LogChunk> = request.items.into_iter().map(storable).collect();
        let mut tx = self.pools.system_tx().await?;
        let kept = chunk::chunks_keep_in_tx(&mut tx, &chunks).await;
        let kept = kept.map_err(|error| self.heed(error.into()))?;
        tx.commit().await?;
        let mut verdicts = Vec::with_capacity(kept.len());
        for ((meant, fresh), chunk) in kept.into_iter().zip(&chunks) {
            verdicts.push(match (meant, fresh) {
                (true, true) => FinishVerdict::Applied,
                (true, false) => FinishVerdict::Duplicate,
                (false, _) => FinishVerdict::Fenced,
            });
            if fresh {
                let place = chunk.place;
                let log =
                    json!({ "attempt": place.attempt, "first": chunk.first, "lines": chunk.lines });
                self.show(place.org, place.id.0, json!({ "id": place.id, "log": log }))
                    .await;
            }
        }
        Ok(RunLogged { verdicts })
    }
}

fn check(index: usize, item: &LogChunk) -> Result<(), Problem> {
    let path = |field: &str| format!("items[{index}].{field}");
    if item.first < 0 {
        return Err(Problem::invalid(path("first"), "must not be negative"));
    }
    if item.lines.is_empty() {
        return Err(Problem::invalid(path("lines"), "must not be empty"));
    }
    if item
        .lines
        .iter()
        .any(|line| line.len() > LOG_LINE_MAX_BYTES)
    {
        let text = format!("has a line of more than {LOG_LINE_MAX_BYTES} bytes");
        return Err(Problem::invalid(path("lines"), text));
    }
    let bytes: usize = item.lines.iter().map(String::len).sum();
    if bytes > LOG_MAX_BYTES {
        let text = format!("has {bytes} bytes; at most {LOG_MAX_BYTES}");
        return Err(Problem::invalid(path("lines"), text));
    }
    Ok(())
}

/// PostgreSQL takes no NUL in a text.
fn storable(mut chunk: LogChunk) -> LogChunk {
    for line in &mut chunk.lines {
        if line.contains('\0') {
            *line = line.replace('\0', "\u{fffd}");
        }
    }
    chunk
}

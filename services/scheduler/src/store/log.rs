//! What handlers logged, as users read it, in the organisation's tenant transaction.

use contract::execution::{LogLines, LogPlace};
use database::{DatabaseError, Tx};
use domain::{ExecutionId, OrgId};

/// The last lines, of about so many bytes; of each chunk, whether there is one before it.
const TAIL: &str = "
    SELECT attempt, first, lines, earlier FROM (
        SELECT attempt, first, lines, bytes, sum(bytes) OVER newest AS so_far, lead(true, 1, false) OVER newest AS earlier
        FROM scheduler.log_chunks WHERE org_id = $1 AND execution_id = $2
        WINDOW newest AS (ORDER BY attempt DESC, first DESC)
    ) AS chunk
    WHERE so_far - bytes < $3 ORDER BY attempt, first";

/// What comes after a place. A chunk may begin before it.
const AFTER: &str = "
    SELECT attempt, first, lines FROM scheduler.log_chunks
    WHERE org_id = $1 AND execution_id = $2 AND attempt >= $3 AND (attempt > $3 OR first + cardinality(lines) > $4)
    ORDER BY attempt, first LIMIT $5";

/// Lines that a worker sent together.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct ChunkRow {
    pub attempt: i32,
    pub first: i64,
    pub lines: Vec<String>,
}

impl ChunkRow {
    /// The lines from this number on.
    #[must_use]
    pub fn beginning_at(mut self, line: i64) -> Option<LogLines> {
        if let Ok(before) = usize::try_from(line.saturating_sub(self.first)) {
            self.lines.drain(..before.min(self.lines.len()));
            self.first = self.first.max(line);
        }
        let first = LogPlace {
            attempt: self.attempt,
            line: self.first,
        };
        (!self.lines.is_empty()).then_some(LogLines {
            first,
            lines: self.lines,
        })
    }
}

/// The last chunks of an execution's log, in their order: as few as have so many bytes. And whether there is something before
/// them: what was trimmed to so many bytes always has.
///
/// # Errors
/// [`DatabaseError`].
pub async fn log_tail_in_tx(
    tx: &mut Tx,
    org: OrgId,
    execution: ExecutionId,
    bytes: i64,
) -> Result<(Vec<ChunkRow>, bool), DatabaseError> {
    let rows: Vec<(i32, i64, Vec<String>, bool)> = sqlx::query_as(TAIL)
        .bind(org.0)
        .bind(execution.0)
        .bind(bytes)
        .fetch_all(&mut **tx)
        .await?;
    let is_cut = rows.first().is_some_and(|(_, _, _, earlier)| *earlier);
    let chunks = rows
        .into_iter()
        .map(|(attempt, first, lines, _)| ChunkRow {
            attempt,
            first,
            lines,
        })
        .collect();
    Ok((chunks, is_cut))
}

/// Chunks of an execution's log that have lines from this place on, the first of them.
///
/// # Errors
/// [`DatabaseError`].
pub async fn log_from_in_tx(
    tx: &mut Tx,
    org: OrgId,
    execution: ExecutionId,
    from: LogPlace,
    limit: i64,
) -> Result<Vec<ChunkRow>, DatabaseError> {
    Ok(sqlx::query_as(AFTER)
        .bind(org.0)
        .bind(execution.0)
        .bind(from.attempt)
        .bind(from.line)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?)
}

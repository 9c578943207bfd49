//! What handlers logged, as users read it: its end, or from a place on.

use std::collections::VecDeque;

use contract::Problem;
use contract::execution::{ExecutionLog, ExecutionLogPage, LogPlace};
use contract::grant::Grant;
use database::Tx;
use domain::access::JOBS_READ;
use domain::execution::LOG_MAX_BYTES;
use domain::{ExecutionId, OrgId};

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::{execution, log};

/// How many messages of workers one page has. What is kept of a log may be more of them, when they are short: who reads asks on.
const CHUNKS_MAX: i64 = 1_000;
/// A page ends early when its lines reach this many bytes.
const PAGE_MAX_BYTES: usize = 256 * 1024;

impl App {
    /// Lines of an execution's log from a place on, as many as one page has, and where the execution stood before they were read:
    /// when it had ended and there are none, there will be none.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn execution_log(
        &self,
        grant: &Grant,
        request: &ExecutionLog,
    ) -> Result<ExecutionLogPage, SchedulerError> {
        grant.require(JOBS_READ)?;
        let (org, id) = (grant.org, request.execution_id);
        let mut tx = self.pools.tenant_read(org).await?;
        let found = execution::summaries_get_in_tx(&mut tx, org, &[id.0]).await?;
        let found = found
            .first()
            .ok_or_else(|| Problem::not_found("execution"))?;
        let status = found.view(false)?.status;
        let from = match request.after {
            Some(after) => LogPlace {
                line: after.line.saturating_add(1),
                ..after
            },
            None => LogPlace {
                attempt: 0,
                line: 0,
            },
        };
        let chunks = log::log_from_in_tx(&mut tx, org, id, from, CHUNKS_MAX).await?;
        drop(tx);
        let mut items = Vec::with_capacity(chunks.len());
        let mut bytes = 0;
        for chunk in chunks {
            let line = if chunk.attempt == from.attempt {
                from.line
            } else {
                0
            };
            let Some(lines) = chunk.beginning_at(line) else {
                continue;
            };
            bytes += lines.lines.iter().map(|line| line.len() + 1).sum::<usize>();
            if bytes > PAGE_MAX_BYTES && !items.is_empty() {
                break;
            }
            items.push(lines);
        }
        Ok(ExecutionLogPage { items, status })
    }
}

/// The last lines of an execution's log, of at most [`LOG_MAX_BYTES`], and whether there were more.
///
/// # Errors
/// [`SchedulerError::Database`].
pub(crate) async fn tail_in_tx(
    tx: &mut Tx,
    org: OrgId,
    id: ExecutionId,
) -> Result<(Vec<String>, bool), SchedulerError> {
    let (chunks, is_cut) = log::log_tail_in_tx(tx, org, id, LOG_MAX_BYTES as i64).await?;
    // Or what came first was never taken.
    let cut = is_cut || chunks.first().is_some_and(|chunk| chunk.first > 0);
    let lines = chunks.into_iter().flat_map(|chunk| chunk.lines);
    let (lines, shortened) = last(lines, LOG_MAX_BYTES);
    Ok((lines, cut || shortened))
}

/// The last lines that have so many bytes together, each with its end, and whether there were others.
fn last(lines: impl Iterator<Item = String>, most: usize) -> (Vec<String>, bool) {
    let mut kept: VecDeque<String> = VecDeque::new();
    let (mut bytes, mut shortened) = (0, false);
    for line in lines {
        bytes += line.len() + 1;
        kept.push_back(line);
        while bytes > most {
            let Some(dropped) = kept.pop_front() else {
                break;
            };
            bytes -= dropped.len() + 1;
            shortened = true;
        }
    }
    (kept.into(), shortened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let lines = || ["one", "two", "three"].map(str::to_owned).into_iter();
        assert_eq!(last(lines(), 14), (lines().collect(), false));
        assert_eq!(
            last(lines(), 13),
            (vec!["two".into(), "three".into()], true)
        );
        assert_eq!(last(lines(), 5), (vec![], true));
        assert_eq!(last(std::iter::empty(), 5), (vec![], false));
    }
}

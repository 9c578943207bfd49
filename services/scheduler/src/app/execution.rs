//! Looking at executions.

use std::collections::HashMap;

use contract::Problem;
use contract::execution::{Execution, ExecutionFilter, ExecutionList, ExecutionPage};
use contract::grant::Grant;
use domain::ExecutionId;
use domain::access::JOBS_READ;
use domain::execution::{ExecutionStatus, first_id};
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::execution::{self, ExecutionRow};
use crate::store::page::{self, Wanted};

/// The longest page.
const LIMIT_MAX: u32 = 200;
/// A page ends early when what it shows reaches this many bytes.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// How many whole rows are read at once: each may have a few hundred KiB.
const PORTION: usize = 50;

impl App {
    /// An execution, with the end of its log.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn execution_get(
        &self,
        grant: &Grant,
        id: ExecutionId,
    ) -> Result<Execution, SchedulerError> {
        grant.require(JOBS_READ)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = execution::execution_get_in_tx(&mut tx, grant.org, id).await?;
        let row = row.ok_or_else(|| Problem::not_found("execution"))?;
        let (logs, truncated) = crate::app::log::tail_in_tx(&mut tx, grant.org, id).await?;
        drop(tx);
        Ok(Execution {
            logs: Some(logs),
            logs_truncated: Some(truncated),
            ..row.view()?
        })
    }

    /// A page of executions, the newest first. Whatever moves from one state to the next meanwhile is on one page, once.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming `limit`, `cursor` or `from`; UNAVAILABLE.
    pub async fn execution_list(
        &self,
        grant: &Grant,
        request: &ExecutionList,
    ) -> Result<ExecutionPage, SchedulerError> {
        grant.require(JOBS_READ)?;
        if !(1..=LIMIT_MAX).contains(&request.limit) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")).into());
        }
        let mut wanted = wanted(&request.filter)?;
        if let Some(cursor) = &request.cursor {
            let cursor: ExecutionId = cursor
                .parse()
                .map_err(|_| Problem::invalid("cursor", "is not one that this list gave"))?;
            wanted.below = wanted.below.min(cursor.0);
        }
        let limit = request.limit as usize;
        let rows = i64::from(request.limit) + 1;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let mut ids = page::executions_find_in_tx(&mut tx, grant.org, &wanted, rows).await?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        // The next page begins after the last of this one.
        let mut next = ids.last().copied().filter(|_| more);
        let mut items: Vec<Execution> = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        'portions: for portion in ids.chunks(PORTION) {
            let rows = execution::executions_get_in_tx(&mut tx, grant.org, portion).await?;
            let mut rows: HashMap<Uuid, ExecutionRow> =
                rows.into_iter().map(|row| (row.id, row)).collect();
            for id in portion {
                // Since it was found it may have moved on, to where nobody asked for it.
                let Some(row) = rows.remove(id).filter(|row| is_wanted(&wanted, row)) else {
                    continue;
                };
                bytes += row.length();
                if bytes > PAGE_MAX_BYTES && !items.is_empty() {
                    next = items.last().map(|last| last.id.0);
                    break 'portions;
                }
                items.push(row.view()?);
            }
        }
        drop(tx);
        let next_cursor = next.map(|id| ExecutionId(id).token());
        Ok(ExecutionPage { items, next_cursor })
    }
}

/// What a filter means.
///
/// # Errors
/// INVALID naming `from`, when it is after `to`.
pub(crate) fn wanted(filter: &ExecutionFilter) -> Result<Wanted, Problem> {
    use ExecutionStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from > to
    {
        let message = format!("must not be after `to` ({to})");
        return Err(Problem::invalid("from", message));
    }
    let is_dead = filter.dead_letter == Some(true);
    let ended: &[ExecutionStatus] = match filter.status {
        None => &[Completed, Failed, Timeout, Cancelled],
        Some(Completed) => &[Completed],
        Some(Failed) => &[Failed],
        Some(Timeout) => &[Timeout],
        Some(Cancelled) => &[Cancelled],
        Some(Pending | Running) => &[],
    };
    Ok(Wanted {
        job: filter.job_id,
        waiting: !is_dead && matches!(filter.status, None | Some(Pending)),
        running: !is_dead && matches!(filter.status, None | Some(Running)),
        ended: ended
            .iter()
            .filter(|status| {
                filter
                    .dead_letter
                    .is_none_or(|dead| dead == is_dead_letter(**status))
            })
            .map(|status| status.as_str())
            .collect(),
        from: filter.from.map_or(Uuid::nil(), first_id),
        below: filter.to.map_or(Uuid::max(), first_id),
    })
}

/// Whether what ended so is a dead letter: a check of the table says the same.
fn is_dead_letter(status: ExecutionStatus) -> bool {
    matches!(status, ExecutionStatus::Failed | ExecutionStatus::Timeout)
}

fn is_wanted(wanted: &Wanted, row: &ExecutionRow) -> bool {
    match row.status.as_str() {
        "PENDING" => wanted.waiting,
        "RUNNING" => wanted.running,
        status => wanted.ended.contains(&status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_where_to_look() {
        let of = |status, dead_letter| {
            let filter = ExecutionFilter {
                status,
                dead_letter,
                ..ExecutionFilter::default()
            };
            let wanted = wanted(&filter).expect("a filter");
            (wanted.waiting, wanted.running, wanted.ended.len())
        };
        assert_eq!(of(None, None), (true, true, 4));
        assert_eq!(of(None, Some(true)), (false, false, 2));
        assert_eq!(of(None, Some(false)), (true, true, 2));
        assert_eq!(of(Some(ExecutionStatus::Pending), None), (true, false, 0));
        assert_eq!(of(Some(ExecutionStatus::Running), None), (false, true, 0));
        assert_eq!(
            of(Some(ExecutionStatus::Failed), Some(true)),
            (false, false, 1)
        );
        assert_eq!(
            of(Some(ExecutionStatus::Pending), Some(true)),
            (false, false, 0)
        );
    }
}

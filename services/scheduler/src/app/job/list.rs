//! Lists of jobs, by name: a page ends where the next begins, which its cursor says.

use contract::audit::chain::hex;
use contract::job::{Job, JobList, JobPage};
use contract::{Grant, Problem};
use domain::access::JOBS_READ;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::job;

/// The longest page.
const LIMIT_MAX: u32 = 200;
/// A page ends early when its configurations reach this many bytes.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// The longest cursor: a name in hexadecimal digits.
const CURSOR_MAX_BYTES: usize = 2 * 4 * domain::text::NAME_MAX_CHARS;

impl App {
    /// A page of jobs, by name.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn job_list(
        &self,
        grant: &Grant,
        request: &JobList,
    ) -> Result<JobPage, SchedulerError> {
        grant.require(JOBS_READ)?;
        if !(1..=LIMIT_MAX).contains(&request.limit) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")).into());
        }
        let after = match &request.cursor {
            None => String::new(),
            Some(cursor) => place(cursor)
                .ok_or_else(|| Problem::invalid("cursor", "is not one that this list gave"))?,
        };
        let rows = i64::from(request.limit) + 1;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows = job::job_list_in_tx(&mut tx, grant.org, &after, request.enabled, rows).await?;
        drop(tx);
        let found = rows.len();
        let mut items: Vec<Job> = Vec::with_capacity(found);
        let mut bytes = 0;
        for row in rows.into_iter().take(request.limit as usize) {
            bytes += row.config.to_string().len() + row.description.len();
            if bytes > PAGE_MAX_BYTES && !items.is_empty() {
                break;
            }
            items.push(row.view()?);
        }
        let more = items.len() < found;
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|job| hex::text(job.name.as_bytes()));
        Ok(JobPage { items, next_cursor })
    }
}

/// The name that a cursor says.
fn place(cursor: &str) -> Option<String> {
    if cursor.len() > CURSOR_MAX_BYTES || !cursor.len().is_multiple_of(2) {
        return None;
    }
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = cursor.as_bytes().chunks(2).map(byte).collect();
    // Whether it is a good name is nobody's question here: jobs keep theirs when the rule of names becomes stricter.
    let name = String::from_utf8(bytes?).ok()?;
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let strict = "\u{200b}";
        assert!(domain::text::check_name(strict).is_err());
        for name in ["a", "Übung 3", "nightly/sync", strict] {
            assert_eq!(place(&hex::text(name.as_bytes())).as_deref(), Some(name));
        }
        for bad in ["", "6", "zz", "00", "ff", &"61".repeat(900)] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}

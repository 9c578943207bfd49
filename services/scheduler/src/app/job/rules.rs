//! What a job may be, and when nothing of it may begin.

use contract::{Problem, ProblemKind};
use domain::job::{
    BACKOFF_MS, CONCURRENCY, CONFIG_MAX_BYTES, DESCRIPTION_MAX_CHARS, PRIORITY, RATE_MAX,
    RATE_PER_MS, RETRIES, TIMEOUT_MS,
};
use domain::text::{check_name, check_text};
use serde_json::{Map, Value};

use crate::app::{App, handler};
use crate::store::enqueue::JobHead;
use crate::store::job::JobRow;

impl App {
    /// Checks all that is said of a job.
    pub(super) fn job_check(&self, row: &JobRow) -> Result<(), Problem> {
        check_name(&row.name).map_err(|error| Problem::invalid("name", error))?;
        let banned = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        check_text(&row.description, DESCRIPTION_MAX_CHARS, banned)
            .map_err(|error| Problem::invalid("description", error))?;
        check_json("config", &row.config, CONFIG_MAX_BYTES)?;
        let empty = Map::new();
        handler::check(&row.handler, row.config.as_object().unwrap_or(&empty))?;
        if !self.worker_pools.contains(&row.pool) {
            let known = self.worker_pools.join(", ");
            let message = format!("there is no such pool of workers; known are {known}");
            return Err(Problem::invalid("pool", message));
        }
        within("priority", row.priority, &PRIORITY)?;
        within("timeout", row.timeout_ms, &TIMEOUT_MS)?;
        within("retries", row.retries, &RETRIES)?;
        within("backoff", row.backoff_ms, &BACKOFF_MS)?;
        if let Some(limit) = row.concurrency {
            within("concurrency", limit, &CONCURRENCY)?;
        }
        if let Some(limit) = row.key_concurrency {
            within("keyConcurrency", limit, &CONCURRENCY)?;
        }
        if let Some(max) = row.rate_max {
            within("rate.max", max, &RATE_MAX)?;
        }
        if let Some(per_ms) = row.rate_per_ms {
            within("rate.perMs", per_ms, &RATE_PER_MS)?;
        }
        Ok(())
    }
}

/// Why nothing of a job may begin, if so: it is disabled, or its pool is none of the `pools`, which have workers.
pub(crate) fn refusal(job: &JobHead, pools: &[String]) -> Option<String> {
    let (name, pool) = (&job.name, &job.pool);
    if !job.enabled {
        return Some(format!("the job `{name}` is disabled"));
    }
    let is_gone = !pools.contains(pool);
    is_gone.then(|| {
        format!(
            "the job `{name}` is in the pool `{pool}`, which has no workers here: give it another"
        )
    })
}

/// Refuses a number that is out of bounds.
///
/// # Errors
/// INVALID naming the field.
pub(crate) fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    range: &std::ops::RangeInclusive<T>,
) -> Result<(), Problem> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(Problem::invalid(
        field,
        format!("must be from {least} to {most}"),
    ))
}

/// Refuses JSON that is too long, or that the database does not take.
///
/// # Errors
/// TOO_LARGE, or INVALID, naming the field.
pub(crate) fn check_json(field: &str, value: &Value, most: usize) -> Result<(), Problem> {
    let text = value.to_string();
    if text.len() > most {
        let message = format!("has {} bytes of JSON; at most {most}", text.len());
        return Err(Problem {
            kind: ProblemKind::TooLarge,
            ..Problem::invalid(field, message)
        });
    }
    if text.contains("\\u0000") {
        let message = "must not contain the character U+0000";
        return Err(Problem::invalid(field, message));
    }
    Ok(())
}

//! Jobs: made, looked at, edited, removed. The row is edited under its lock, so two edits at once both hold, unless they are about
//! the same field: then the later one does.

use contract::audit::Resource;
use contract::audit::chain::hex;
use contract::job::{Job, JobCreate, JobDelete, JobDeleted, JobEdit, JobList, JobPage, Rate};
use contract::merge::Edit;
use contract::work::Lane;
use contract::{Author, FieldError, Grant, Problem, ProblemKind};
use database::{DatabaseError, OutboxRow, Tx};
use domain::access::{JOBS_READ, JOBS_WRITE};
use domain::execution::BATCH_MAX;
use domain::job::{
    BACKOFF_MS, BACKOFF_MS_DEFAULT, CONCURRENCY, CONFIG_MAX_BYTES, DESCRIPTION_MAX_CHARS, JOBS_MAX,
    POOL_DEFAULT, PRIORITY, RATE_MAX, RATE_PER_MS, RETRIES, RETRIES_DEFAULT, TIMEOUT_MS,
    TIMEOUT_MS_DEFAULT,
};
use domain::text::{check_name, check_text};
use domain::{JobId, OrgId, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::idempotency::Key;
use crate::app::{App, audit, handler};
use crate::error::SchedulerError;
use crate::store::job::JobRow;
use crate::store::{change, job, limits};

/// What keys of requests that make a job are filed under.
const ROUTE: &str = "job.create";
/// The longest page.
const LIMIT_MAX: u32 = 200;
/// A page ends early when its configurations reach this many bytes.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// The longest cursor: a name in hexadecimal digits.
const CURSOR_MAX_BYTES: usize = 2 * 4 * domain::text::NAME_MAX_CHARS;
/// How many executions one statement ends.
const PORTION: usize = 1_000;
/// How often a transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;

impl App {
    /// Makes a job.
    ///
    /// # Errors
    /// INVALID naming the field, TOO_LARGE naming `config`; FORBIDDEN without `jobs:write`; CONFLICT naming `name` when another
    /// job has it, when there are as many jobs as there may be, and for a key used for another body; UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn job_create(
        &self,
        author: &Author,
        request: JobCreate,
    ) -> Result<Job, SchedulerError> {
        author.require(JOBS_WRITE)?;
        let org = author.org;
        let key = Key::of(ROUTE, request.idempotency_key.as_deref(), &request)?;
        let row = new_row(request);
        self.job_check(&row)?;
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = &key
            && let Some(made) = key.take_in_tx(&mut tx, org, &[row.id]).await?
        {
            let made = made.first().copied().unwrap_or_default();
            let earlier = job::job_get_in_tx(&mut tx, org, made.into()).await?;
            return earlier.ok_or_else(|| Problem::not_found("job"))?.view();
        }
        if job::jobs_count_in_tx(&mut tx, org).await? >= JOBS_MAX {
            let text = format!("the organisation has {JOBS_MAX} jobs, and gets no more");
            return Err(Problem::new(ProblemKind::Conflict, text).into());
        }
        let inserted = job::job_insert_in_tx(&mut tx, org, &row).await;
        inserted.map_err(|error| taken(error, &row.name))?;
        if row.limits().iter().any(Option::is_some) {
            limits::limits_set_in_tx(&mut tx, org, row.id.into()).await?;
        }
        let entry = author.did("job.create", resource(&row)).after(told(&row));
        event(org, &row, "created", author.sub, &[])
            .insert_in_tx(contract::job::SERVICE, &mut tx)
            .await?;
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        row.view()
    }

    /// A job.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn job_get(&self, grant: &Grant, id: JobId) -> Result<Job, SchedulerError> {
        grant.require(JOBS_READ)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = job::job_get_in_tx(&mut tx, grant.org, id).await?;
        row.ok_or_else(|| Problem::not_found("job"))?.view()
    }

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

    /// Edits a job. What runs and what waits goes on; a limit counts what runs from the commit on.
    ///
    /// # Errors
    /// As [`App::job_create`]; NOT_FOUND.
    pub async fn job_edit(&self, author: &Author, request: JobEdit) -> Result<Job, SchedulerError> {
        author.require(JOBS_WRITE)?;
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let before = job::job_lock_in_tx(&mut tx, org, request.job_id).await?;
        let before = before.ok_or_else(|| Problem::not_found("job"))?;
        let mut after = edited(&before, request);
        self.job_check(&after)?;
        if after == before {
            return before.view();
        }
        after.version += 1;
        after.updated_at = Timestamp::now().utc();
        let updated = job::job_update_in_tx(&mut tx, org, &after).await;
        updated.map_err(|error| taken(error, &after.name))?;
        if after.limits() != before.limits() {
            limits::limits_set_in_tx(&mut tx, org, after.id.into()).await?;
        }
        let (was, is) = (told(&before), told(&after));
        let changed = changed(&was, &is);
        event(org, &after, "edited", author.sub, &changed)
            .insert_in_tx(contract::job::SERVICE, &mut tx)
            .await?;
        let entry = author.did("job.edit", resource(&after));
        audit::note_in_tx(&mut tx, entry.before(was).after(is)).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        if before.paused_at.is_some() && after.paused_at.is_none() {
            // Those with a concurrency key are found by whoever looks around.
            let lane = Lane {
                org,
                job: after.id.into(),
                key: String::new(),
            };
            self.bell.waits(&after.pool, [lane]).await;
        }
        after.view()
    }

    /// Removes a job: what waits of it is cancelled, what runs is asked to stop. What has ended stays, and cannot begin again.
    ///
    /// # Errors
    /// FORBIDDEN without `jobs:write`; NOT_FOUND; CONFLICT when more executions wait than one request ends; UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn job_delete(
        &self,
        author: &Author,
        request: &JobDelete,
    ) -> Result<JobDeleted, SchedulerError> {
        author.require(JOBS_WRITE)?;
        let mut tries = 1;
        let swept = loop {
            match self.delete_try(author, request.job_id).await {
                Err(SchedulerError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "the removal of a job collided and is run again");
                    tries += 1;
                }
                ended => break ended?,
            }
        };
        self.relay.wake();
        self.audit_relay.wake();
        for id in swept.cancelled {
            self.show_status(author.org, id, "CANCELLED", false).await;
        }
        for id in swept.stopped {
            self.show_status(author.org, id, "RUNNING", true).await;
        }
        Ok(JobDeleted {})
    }

    async fn delete_try(&self, author: &Author, id: JobId) -> Result<Swept, SchedulerError> {
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let row = job::job_lock_in_tx(&mut tx, org, id).await?;
        let row = row.ok_or_else(|| Problem::not_found("job"))?;
        let mut swept = Swept::default();
        sweep_in_tx(&mut tx, org, id, &mut swept).await?;
        // Until here others could ask for executions of it; what they committed meanwhile goes the same way.
        job::job_close_in_tx(&mut tx, org, id).await?;
        sweep_in_tx(&mut tx, org, id, &mut swept).await?;
        job::job_delete_in_tx(&mut tx, org, id).await?;
        let gone = JobRow {
            version: row.version + 1,
            ..row
        };
        event(org, &gone, "deleted", author.sub, &[])
            .insert_in_tx(contract::job::SERVICE, &mut tx)
            .await?;
        let entry = author.did("job.delete", resource(&gone));
        let after = json!({ "cancelled": swept.cancelled.len(), "asked": swept.stopped.len() });
        audit::note_in_tx(&mut tx, entry.before(told(&gone)).after(after)).await?;
        tx.commit().await?;
        Ok(swept)
    }

    /// Checks all that is said of a job.
    fn job_check(&self, row: &JobRow) -> Result<(), Problem> {
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

/// What the removal of a job ended, and what it asked to stop.
#[derive(Debug, Default)]
struct Swept {
    cancelled: Vec<Uuid>,
    stopped: Vec<Uuid>,
}

/// Ends what waits of a job, and asks what runs to stop: in this order, since from one to the other a claim may take something.
async fn sweep_in_tx(
    tx: &mut Tx,
    org: OrgId,
    id: JobId,
    swept: &mut Swept,
) -> Result<(), SchedulerError> {
    let waiting = change::waiting_of_job_in_tx(tx, org, id, BATCH_MAX as i64 + 1).await?;
    if swept.cancelled.len() + waiting.len() > BATCH_MAX {
        let text = format!(
            "more than {BATCH_MAX} executions of the job wait; cancel them first, by `executions/cancel` with its `jobId`"
        );
        return Err(Problem::new(ProblemKind::Conflict, text).into());
    }
    for portion in waiting.chunks(PORTION) {
        let cancelled = change::waiting_cancel_in_tx(tx, org, portion).await?;
        swept.cancelled.extend(cancelled);
    }
    let stopped = change::job_stop_in_tx(tx, org, id).await?;
    swept.stopped.extend(stopped);
    Ok(())
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

fn new_row(request: JobCreate) -> JobRow {
    let now = Timestamp::now().utc();
    let rate = request.rate;
    JobRow {
        id: JobId::new().0,
        name: request.name,
        description: request.description,
        module_id: None,
        handler: request.handler,
        config: Value::Object(request.config),
        enabled: request.enabled.unwrap_or(true),
        paused_at: None,
        pool: request.pool.unwrap_or_else(|| POOL_DEFAULT.to_owned()),
        priority: request.priority.unwrap_or_default(),
        timeout_ms: request.timeout.unwrap_or(TIMEOUT_MS_DEFAULT),
        retries: request.retries.unwrap_or(RETRIES_DEFAULT),
        backoff_ms: request.backoff.unwrap_or(BACKOFF_MS_DEFAULT),
        concurrency: request.concurrency,
        key_concurrency: request.key_concurrency,
        rate_max: rate.map(|rate| rate.max),
        rate_per_ms: rate.map(|rate| rate.per_ms),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// A job after an edit. `null` is the default, or no limit.
fn edited(before: &JobRow, edit: JobEdit) -> JobRow {
    fn or<T>(edit: Edit<T>, before: T, default: T) -> T {
        match edit {
            Edit::Keep => before,
            Edit::Clear => default,
            Edit::Set(value) => value,
        }
    }
    let before = before.clone();
    let rate = before.rate_max.zip(before.rate_per_ms);
    let rate = rate.map(|(max, per_ms)| Rate { max, per_ms });
    let rate = edit.rate.applied(rate);
    let paused_at = match edit.paused {
        Some(true) => before.paused_at.or_else(|| Some(Timestamp::now().utc())),
        Some(false) => None,
        None => before.paused_at,
    };
    let config = match edit.config {
        Edit::Keep => before.config,
        Edit::Clear => Value::Object(Map::new()),
        Edit::Set(config) => Value::Object(config),
    };
    JobRow {
        name: edit.name.unwrap_or(before.name),
        description: or(edit.description, before.description, String::new()),
        handler: edit.handler.unwrap_or(before.handler),
        config,
        enabled: edit.enabled.unwrap_or(before.enabled),
        paused_at,
        pool: or(edit.pool, before.pool, POOL_DEFAULT.to_owned()),
        priority: or(edit.priority, before.priority, 0),
        timeout_ms: or(edit.timeout, before.timeout_ms, TIMEOUT_MS_DEFAULT),
        retries: or(edit.retries, before.retries, RETRIES_DEFAULT),
        backoff_ms: or(edit.backoff, before.backoff_ms, BACKOFF_MS_DEFAULT),
        concurrency: edit.concurrency.applied(before.concurrency),
        key_concurrency: edit.key_concurrency.applied(before.key_concurrency),
        rate_max: rate.map(|rate| rate.max),
        rate_per_ms: rate.map(|rate| rate.per_ms),
        ..before
    }
}

/// Another job has the name.
fn taken(error: DatabaseError, name: &str) -> SchedulerError {
    if error.constraint() != Some("jobs_name_key") {
        return error.into();
    }
    let message = format!("another job has the name `{name}`");
    let problem = Problem {
        errors: vec![FieldError {
            path: "name".into(),
            message: message.clone(),
        }],
        ..Problem::new(ProblemKind::Conflict, message)
    };
    problem.into()
}

fn resource(row: &JobRow) -> Resource {
    Resource::of("job", row.id).named(&row.name)
}

/// What the audit is told of a job. Not its configuration, in which there may be what is nobody's business; but by its hash it
/// can be recognised.
fn told(row: &JobRow) -> Value {
    let config = Sha256::digest(row.config.to_string());
    json!({
        "name": row.name,
        "description": row.description,
        "handler": row.handler,
        "configSha256": hex::text(&config),
        "enabled": row.enabled,
        "paused": row.paused_at.is_some(),
        "pool": row.pool,
        "priority": row.priority,
        "timeout": row.timeout_ms,
        "retries": row.retries,
        "backoff": row.backoff_ms,
        "concurrency": row.concurrency,
        "keyConcurrency": row.key_concurrency,
        "rate": row.rate_max.zip(row.rate_per_ms).map(|(max, per_ms)| json!({ "max": max, "perMs": per_ms })),
    })
}

/// The names of the fields that are others; of the configuration `config`.
fn changed(was: &Value, is: &Value) -> Vec<String> {
    let fields = is.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| was.get(name.as_str()) != Some(*value))
        .map(|(name, _)| match name.as_str() {
            "configSha256" => "config".to_owned(),
            name => name.to_owned(),
        })
        .collect()
}

/// The event: who, and which fields changed.
fn event(org: OrgId, row: &JobRow, verb: &str, by: Uuid, changed: &[String]) -> OutboxRow {
    let mut data = json!({
        "by": by, "name": row.name, "handler": row.handler, "enabled": row.enabled, "paused": row.paused_at.is_some(),
    });
    if let Some(data) = data.as_object_mut().filter(|_| !changed.is_empty()) {
        data.insert("changes".to_owned(), json!(changed));
    }
    OutboxRow::new(org, "job", verb, row.id, row.version, data)
}

/// The name that a cursor says.
fn place(cursor: &str) -> Option<String> {
    if cursor.len() > CURSOR_MAX_BYTES || !cursor.len().is_multiple_of(2) {
        return None;
    }
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = cursor.as_bytes().chunks(2).map(byte).collect();
    let name = String::from_utf8(bytes?).ok()?;
    check_name(&name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for name in ["a", "Übung 3", "nightly/sync"] {
            assert_eq!(place(&hex::text(name.as_bytes())).as_deref(), Some(name));
        }
        for bad in ["", "6", "zz", "00", "20", &"61".repeat(900)] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_changed_is_named_and_never_shown() {
        let was = json!({ "name": "a", "configSha256": "x", "rate": null });
        let is = json!({ "name": "a", "configSha256": "y", "rate": { "max": 1 } });
        let mut changed = changed(&was, &is);
        changed.sort();
        assert_eq!(changed, ["config", "rate"]);
    }
}

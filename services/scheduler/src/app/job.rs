//! Jobs: made, looked at, edited (`draft` what becomes of a row, checked by `rules`), listed (`list`), removed (`remove`);
//! `record` is what others are told. The row is edited under its lock, so two edits at once both hold, unless they are about the
//! same field: then the later one does.

use contract::job::{Job, JobCreate, JobEdit};
use contract::work::Lane;
use contract::{Author, FieldError, Grant, Problem, ProblemKind};
use database::DatabaseError;
use domain::access::{JOBS_READ, JOBS_WRITE};
use domain::builtin::Given;
use domain::job::JOBS_MAX;
use domain::{JobId, Timestamp};
use owner::idempotency::Key;
use serde_json::Map;

use crate::app::{App, audit, handler};
use crate::error::SchedulerError;
use crate::store::idempotency::KEYS;
use crate::store::job::JobRow;
use crate::store::{job, limits};

mod draft;
mod list;
mod record;
mod remove;
mod rules;

use draft::{edited, new_row};
pub(crate) use record::changed;
use record::{event, resource, told};
pub(crate) use rules::{check_json, refusal, within};

/// What keys of requests that make a job are filed under.
const ROUTE: &str = "job.create";

impl App {
    /// Makes a job.
    ///
    /// # Errors
    /// INVALID naming the field, TOO_LARGE naming `config`; FORBIDDEN without `jobs:write`, and without the scope of what the job does
    /// (`builtin/action`); CONFLICT naming `name` when another
    /// job has it, when there are as many jobs as there may be, and for a key used for another body; UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn job_create(
        &self,
        author: &Author,
        request: JobCreate,
    ) -> Result<Job, SchedulerError> {
        author.require(JOBS_WRITE)?;
        let org = author.org;
        let key = Key::of(&KEYS, ROUTE, request.idempotency_key.as_deref(), &request)?;
        let row = new_row(request);
        self.job_check(&row)?;
        may_have(author, &row)?;
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
        if !is_switched(&before, &after) {
            self.job_check(&after)?;
        }
        if (&after.handler, &after.config) != (&before.handler, &before.config) {
            may_have(author, &after)?;
        }
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
}

/// Whether a job is switched on or off, and nothing else changes. That is possible whatever has become of its pool, or of the rules, since it
/// was made.
fn is_switched(before: &JobRow, after: &JobRow) -> bool {
    let switched = JobRow {
        enabled: after.enabled,
        paused_at: after.paused_at,
        ..before.clone()
    };
    switched == *after
}

/// Refuses somebody who has no right to what a job does.
fn may_have(author: &Author, row: &JobRow) -> Result<(), Problem> {
    let empty = Map::new();
    let config = row.config.as_object().unwrap_or(&empty);
    handler::require(author, &row.handler, Given::of(config))
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

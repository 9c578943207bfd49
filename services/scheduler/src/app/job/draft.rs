//! A job's row, as a request wants it.

use contract::job::{JobCreate, JobEdit, Rate};
use contract::merge::Edit;
use domain::job::{BACKOFF_MS_DEFAULT, POOL_DEFAULT, RETRIES_DEFAULT, TIMEOUT_MS_DEFAULT};
use domain::{JobId, Timestamp};
use serde_json::{Map, Value};

use crate::store::job::JobRow;

/// A job that nobody has made yet.
pub(super) fn new_row(request: JobCreate) -> JobRow {
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
pub(super) fn edited(before: &JobRow, edit: JobEdit) -> JobRow {
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

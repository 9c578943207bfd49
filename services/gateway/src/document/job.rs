//! Jobs, and how they are to be executed, as the document shows them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter;

use chrono::{DateTime, Utc};
use contract::job as message;
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::Value;
use uuid::Uuid;

use super::nullable::Nullable;
use crate::inbound::job::JobEdits;
use crate::json::Documented;

/// How many may begin in one period, which begins with the first of them.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Rate {
    /// So many.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    max: i32,
    /// The period, in milliseconds.
    #[oai(validator(minimum(value = "100"), maximum(value = "86400000")))]
    per_ms: i64,
}

/// A job: a handler, and how it is to be run. `rate` is the most that begin in a period.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    id: Uuid,
    /// Its name, which no other job of the organisation has.
    name: String,
    /// What it is for; may be empty.
    description: String,
    /// The module whose handler it is; `null` for `builtin/…`.
    module_id: Nullable<Uuid, true>,
    /// What runs, such as `builtin/noop`.
    handler: String,
    /// What the handler is given.
    config: HashMap<String, Value>,
    /// Whether it may be executed.
    enabled: bool,
    /// Whether what waits is held back.
    paused: bool,
    /// The pool of workers that runs it.
    pool: String,
    /// Its place within the organisation: the highest first.
    priority: i16,
    /// How long an attempt may take, in milliseconds.
    timeout: i64,
    /// How often a failed attempt is followed by another.
    retries: i16,
    /// The time before the first of those, in milliseconds; doubled for each that follows.
    backoff: i64,
    /// The most that run at once; as many as there are workers for when absent.
    concurrency: Option<i32>,
    /// The most that run at once with the same concurrency key.
    key_concurrency: Option<i32>,
    rate: Option<Rate>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last changed.
    updated_at: DateTime<Utc>,
}

/// A page of jobs, by name.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct JobPage {
    /// The jobs.
    items: Vec<Job>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A job to be made. `rate` is the most that may begin in a period.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct JobCreate {
    /// Its name: one line, without spaces at its ends, which no other job has.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// What it is for.
    #[oai(validator(max_length = 2000))]
    description: Option<String>,
    /// What runs: `builtin/noop`, `builtin/sleep`, `builtin/http-check`, `builtin/http-request`, `builtin/action`.
    #[oai(validator(min_length = 1, max_length = 200))]
    handler: String,
    /// What the handler takes, at most 64 KiB: `noop` anything; `sleep {ms}`; `http-check {url, method?, expectedStatus?, timeoutMs?,
    /// headers?}`; `http-request {url, method, headers?, body?, timeoutMs?}`; `action {machineId, kind, payload?, notAfterMs?}`.
    config: Option<HashMap<String, Value>>,
    /// Whether it may be executed; yes when absent.
    enabled: Option<bool>,
    /// The pool of workers; `default` when absent.
    pool: Option<String>,
    /// Its place within the organisation, the highest first: from -100 to 100, 0 when absent.
    priority: Option<i16>,
    /// How long an attempt may take, in milliseconds: five minutes when absent.
    #[oai(validator(minimum(value = "100"), maximum(value = "86400000")))]
    timeout: Option<i64>,
    /// How often a failed attempt is followed by another; 3 when absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "25")))]
    retries: Option<i16>,
    /// The time before the first of those, in milliseconds, doubled for each that follows; a second when absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "3600000")))]
    backoff: Option<i64>,
    /// The most that run at once; no limit when absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    concurrency: Option<i32>,
    /// The most that run at once with the same concurrency key; no limit when absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    key_concurrency: Option<i32>,
    rate: Option<Rate>,
}

/// What changes of a job, as a merge patch (RFC 7396): a field that is absent stays as it is, `null` sets what a new job has. A name, a
/// handler and the switches cannot be `null`.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct JobEdit {
    /// Its name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    /// What it is for.
    #[oai(validator(max_length = 2000))]
    description: Nullable<String>,
    /// What runs.
    #[oai(validator(min_length = 1, max_length = 200))]
    handler: Option<String>,
    /// What the handler is given: replaced as a whole.
    config: Nullable<HashMap<String, Value>>,
    /// Whether it may be executed.
    enabled: Option<bool>,
    /// Whether what waits is held back.
    paused: Option<bool>,
    /// The pool of workers, of what is asked for from now on.
    pool: Nullable<String>,
    /// Its place within the organisation, from -100 to 100, of what is asked for from now on.
    priority: Nullable<i16>,
    /// How long an attempt may take, in milliseconds, of attempts that begin from now on.
    #[oai(validator(minimum(value = "100"), maximum(value = "86400000")))]
    timeout: Nullable<i64>,
    /// How often a failed attempt is followed by another.
    #[oai(validator(minimum(value = "0"), maximum(value = "25")))]
    retries: Nullable<i16>,
    /// The time before the first of those, in milliseconds.
    #[oai(validator(minimum(value = "0"), maximum(value = "3600000")))]
    backoff: Nullable<i64>,
    /// The most that run at once; `null` takes the limit away.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    concurrency: Nullable<i32>,
    /// The most that run at once with the same concurrency key; `null` takes the limit away.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    key_concurrency: Nullable<i32>,
    /// The most that may begin in a period; `null` takes the limit away.
    rate: RateOrNone,
}

/// How an execution is to be made.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionOrder {
    /// Replaces fields of the job's configuration, those of the first level. At most 64 KiB.
    config: Option<HashMap<String, Value>>,
    /// Instead of the job's, from -100 to 100.
    priority: Option<i16>,
    /// Not before; at most 30 days ahead.
    run_at: Option<DateTime<Utc>>,
    /// While an execution of the job with this key waits or runs, that one is the answer.
    #[oai(validator(min_length = 1, max_length = 128))]
    deduplication_key: Option<String>,
    /// What the job's `keyConcurrency` counts by.
    #[oai(validator(min_length = 1, max_length = 128))]
    concurrency_key: Option<String>,
}

/// What is said of the organisation's executions as a whole.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionSettings {
    /// Whether all that waits is held back.
    paused: bool,
    /// The most that run at once; no limit when absent.
    concurrency: Option<i32>,
    /// Its share beside other organisations that wait, from 1 to 100.
    weight: i16,
}

/// What is to be said of the organisation's executions, as a merge patch (RFC 7396).
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionSettingsEdit {
    /// Whether all that waits is held back.
    paused: Option<bool>,
    /// The most that run at once; `null` takes the limit away.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    concurrency: Nullable<i32>,
    /// Its share beside other organisations that wait; the platform's administrators say it.
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    weight: Option<i16>,
}

/// A rate or `null`: a named type with `null` is nothing that the document can say, so its fields stand here.
pub struct RateOrNone(Option<Value>);

impl Type for RateOrNone {
    const IS_REQUIRED: bool = false;
    type RawValueType = Value;
    type RawElementValueType = Value;

    fn name() -> Cow<'static, str> {
        "nullable_rate".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let number = |format: &'static str, least: f64, most: f64| {
            MetaSchemaRef::Inline(Box::new(MetaSchema {
                minimum: Some(least),
                maximum: Some(most),
                ..MetaSchema::new_with_format("integer", format)
            }))
        };
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            nullable: true,
            required: vec!["max", "perMs"],
            properties: vec![
                ("max", number("int32", 1.0, 1_000_000.0)),
                ("perMs", number("int64", 100.0, 86_400_000.0)),
            ],
            ..MetaSchema::new("object")
        }))
    }

    fn as_raw_value(&self) -> Option<&Value> {
        self.0.as_ref()
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        match &self.0 {
            Some(value) => Box::new(iter::once(value)),
            None => Box::new(iter::empty()),
        }
    }
}

impl ParseFromJSON for RateOrNone {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value.unwrap_or_default() {
            Value::Null => Ok(Self(None)),
            Value::Object(fields) => Ok(Self(Some(Value::Object(fields)))),
            other => Err(ParseError::expected_type(other)),
        }
    }
}

impl ToJSON for RateOrNone {
    fn to_json(&self) -> Option<Value> {
        self.0.clone()
    }
}

impl Documented for message::Job {
    type Schema = Job;
}

impl Documented for message::JobPage {
    type Schema = JobPage;
}

impl Documented for message::JobCreate {
    type Schema = JobCreate;
}

impl Documented for JobEdits {
    type Schema = JobEdit;
}

impl Documented for message::Order {
    type Schema = ExecutionOrder;
    const REQUIRED: bool = false;
}

impl Documented for message::Settings {
    type Schema = ExecutionSettings;
}

impl Documented for message::SettingsEdit {
    type Schema = ExecutionSettingsEdit;
}

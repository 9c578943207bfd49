//! What changes of a job, as a body says it.

use contract::job::{JobEdit, Rate};
use contract::merge::{Edit, given};
use domain::JobId;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What changes of a job; all of it stays when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobEdits {
    /// Its name.
    #[serde(deserialize_with = "given")]
    pub name: Option<String>,
    /// What it is for.
    pub description: Edit<String>,
    /// What runs.
    #[serde(deserialize_with = "given")]
    pub handler: Option<String>,
    /// What the handler is given.
    pub config: Edit<Map<String, Value>>,
    /// Whether it may be executed.
    #[serde(deserialize_with = "given")]
    pub enabled: Option<bool>,
    /// Whether what waits is held back.
    #[serde(deserialize_with = "given")]
    pub paused: Option<bool>,
    /// The pool of workers.
    pub pool: Edit<String>,
    /// Its place within the organisation.
    pub priority: Edit<i16>,
    /// How long an attempt may take, in milliseconds.
    pub timeout: Edit<i64>,
    /// How often a failed attempt is followed by another.
    pub retries: Edit<i16>,
    /// The time before the first of those, in milliseconds.
    pub backoff: Edit<i64>,
    /// The most that run at once.
    pub concurrency: Edit<i32>,
    /// The most that run at once with the same concurrency key.
    pub key_concurrency: Edit<i32>,
    /// The most that may begin in a period.
    pub rate: Edit<Rate>,
}

impl JobEdits {
    /// As the owner is asked.
    #[must_use]
    pub fn of(self, job_id: JobId) -> JobEdit {
        JobEdit {
            job_id,
            name: self.name,
            description: self.description,
            handler: self.handler,
            config: self.config,
            enabled: self.enabled,
            paused: self.paused,
            pool: self.pool,
            priority: self.priority,
            timeout: self.timeout,
            retries: self.retries,
            backoff: self.backoff,
            concurrency: self.concurrency,
            key_concurrency: self.key_concurrency,
            rate: self.rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_takes_away_what_there_need_not_be_and_nothing_else() {
        let edits = json!({ "description": null, "rate": null, "paused": true });
        let edits: JobEdits = serde_json::from_value(edits).unwrap();
        assert_eq!(
            edits,
            JobEdits {
                description: Edit::Clear,
                rate: Edit::Clear,
                paused: Some(true),
                ..JobEdits::default()
            }
        );
        for field in ["name", "handler", "enabled", "paused"] {
            let edits = serde_json::from_value::<JobEdits>(json!({ field: null }));
            let error = edits.unwrap_err().to_string();
            assert!(error.contains("null"), "{field}: {error}");
        }
    }
}

//! What the audit and the events are told of a job.

use contract::audit::Resource;
use contract::audit::chain::hex;
use database::OutboxRow;
use domain::OrgId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::job::JobRow;

/// The job, as the audit names it.
pub(super) fn resource(row: &JobRow) -> Resource {
    Resource::of("job", row.id).named(&row.name)
}

/// What the audit is told of a job. Not its configuration, in which there may be what is nobody's business; but by its hash it
/// can be recognised.
pub(super) fn told(row: &JobRow) -> Value {
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
pub(crate) fn changed(was: &Value, is: &Value) -> Vec<String> {
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
pub(super) fn event(
    org: OrgId,
    row: &JobRow,
    verb: &str,
    by: Uuid,
    changed: &[String],
) -> OutboxRow {
    let mut data = json!({
        "by": by, "name": row.name, "handler": row.handler, "enabled": row.enabled, "paused": row.paused_at.is_some(),
    });
    if let Some(data) = data.as_object_mut().filter(|_| !changed.is_empty()) {
        data.insert("changes".to_owned(), json!(changed));
    }
    OutboxRow::new(org, "job", verb, row.id, row.version, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_and_never_shown() {
        let was = json!({ "name": "a", "configSha256": "x", "rate": null });
        let is = json!({ "name": "a", "configSha256": "y", "rate": { "max": 1 } });
        let mut changed = changed(&was, &is);
        changed.sort();
        assert_eq!(changed, ["config", "rate"]);
    }
}

//! `builtin/action {machineId, kind, payload?, notAfterMs?}`: tells a machine to do something, with the right that whoever asked for
//! the execution has now.

use std::ops::RangeInclusive;

use contract::action::ActionCreate;
use domain::action::NOT_AFTER_MAX;
use domain::{MachineId, Timestamp};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::builtin::{Fields, wrong};
use crate::handler::{Context, Failure, Handler, Level};

/// The handler. It returns `{actionId}` once the action is queued; what becomes of it is the action's own matter. `notAfterMs` counts
/// from when the execution was to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Action;

impl Handler for Action {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(act(context))
    }
}

async fn act(context: &Context) -> Result<Value, Failure> {
    let create = create(
        &context.config,
        context.scheduled_for,
        Timestamp::now(),
        context.idempotency_key(),
    )?;
    let what = format!("{} on {}", create.kind, create.machine_id);
    let queued = context.act(create).await.inspect_err(|failure| {
        context.log(Level::Error, &format!("{what}: {}", failure.message));
    })?;
    context.log(Level::Info, &format!("{what}: queued as {}", queued.id));
    Ok(json!({ "actionId": queued.id }))
}

fn create(
    config: &Map<String, Value>,
    scheduled_for: Timestamp,
    now: Timestamp,
    key: String,
) -> Result<ActionCreate, Failure> {
    let fields = Fields::new(config, &["machineId", "kind", "payload", "notAfterMs"])?;
    let machine = fields.required("machineId", fields.text("machineId")?)?;
    let machine_id: MachineId = machine
        .parse()
        .map_err(|error: domain::ids::IdError| wrong("machineId", &error.to_string()))?;
    let kind = fields.required("kind", fields.text("kind")?)?;
    let longest = u64::try_from(NOT_AFTER_MAX.num_milliseconds()).unwrap_or(0);
    let range: RangeInclusive<u64> = 1..=longest;
    let not_after = fields.whole("notAfterMs", &range)?.map(|ms| {
        let ms = chrono::Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX));
        // The same in each repetition, as the same key must mean the same action; except for one that runs so late that this
        // time has passed.
        let planned = scheduled_for.plus(ms);
        if planned > now { planned } else { now.plus(ms) }
    });
    Ok(ActionCreate {
        machine_id,
        kind: kind.to_owned(),
        payload: fields
            .value("payload")
            .cloned()
            .unwrap_or_else(|| json!({})),
        not_after,
        idempotent: false,
        idempotency_key: Some(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_repetition_asks_for_the_same_action() {
        let machine = MachineId::new();
        let config = config(json!({ "machineId": machine, "kind": "ping", "notAfterMs": 60_000 }));
        let planned = Timestamp::now();
        let later = |seconds: i64| planned.plus(chrono::Duration::seconds(seconds));
        let at = |now: Timestamp| create(&config, planned, now, "e:0".into()).expect("an action");
        assert_eq!(at(later(1)), at(later(50)));
        assert_eq!(at(later(1)).not_after, Some(later(60)));
        assert_eq!(at(later(1)).payload, json!({}));
        assert_eq!(at(later(90)).not_after, Some(later(150)));
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        let id = MachineId::new();
        for (value, field) in [
            (json!({}), "machineId"),
            (json!({ "machineId": "x", "kind": "ping" }), "machineId"),
            (json!({ "machineId": id }), "kind"),
            (
                json!({ "machineId": id, "kind": "ping", "notAfterMs": 0 }),
                "notAfterMs",
            ),
            (
                json!({ "machineId": id, "kind": "ping", "when": 1 }),
                "when",
            ),
        ] {
            let now = Timestamp::now();
            let failure = create(&config(value), now, now, "e:0".into()).expect_err(field);
            let expected = format!("config.{field}: ");
            assert!(
                failure.permanent && failure.message.starts_with(&expected),
                "{failure:?}"
            );
        }
    }
}

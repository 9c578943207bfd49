//! `builtin/action {machineId, kind, payload?, notAfterMs?}`: tells a machine to do something, with the right that whoever asked for
//! the execution has now.

use contract::action::ActionCreate;
use domain::Timestamp;
use domain::builtin::{ActionConfig, Given};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

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
    let create = create(&context.config, context.scheduled_for, Timestamp::now())?;
    let what = format!("{} on {}", create.kind, create.machine_id);
    let queued = context.act(create).await.inspect_err(|failure| {
        context.log(Level::Error, &format!("{what}: {}", failure.message));
    })?;
    context.log(Level::Info, &format!("{what}: queued as {}", queued.id));
    Ok(json!({ "actionId": queued.id }))
}

pub(super) fn create(
    config: &Map<String, Value>,
    scheduled_for: Timestamp,
    now: Timestamp,
) -> Result<ActionCreate, Failure> {
    let config = ActionConfig::read(Given::of(config))?;
    let not_after = config.not_after.map(|after| {
        // One that runs so late that this time has passed has as long from now.
        let planned = scheduled_for.plus(after);
        if planned > now {
            planned
        } else {
            now.plus(after)
        }
    });
    Ok(ActionCreate {
        machine_id: config.machine,
        kind: config.kind.as_str().to_owned(),
        payload: config.payload.cloned().unwrap_or_else(|| json!({})),
        not_after,
        idempotent: false,
        // The scheduler gives it the execution's.
        idempotency_key: None,
        by_key_alone: false,
    })
}

#[cfg(test)]
mod tests {
    use domain::MachineId;

    use super::*;

    fn config(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn one_that_is_late_has_as_long_from_then() {
        let machine = MachineId::new();
        let config = config(json!({ "machineId": machine, "kind": "ping", "notAfterMs": 60_000 }));
        let planned = Timestamp::now();
        let later = |seconds: i64| planned.plus(chrono::Duration::seconds(seconds));
        let at = |now: Timestamp| create(&config, planned, now).expect("an action");
        assert_eq!(at(later(1)), at(later(50)));
        assert_eq!(at(later(1)).not_after, Some(later(60)));
        assert_eq!(at(later(1)).payload, json!({}));
        assert_eq!(at(later(90)).not_after, Some(later(150)));
    }
}

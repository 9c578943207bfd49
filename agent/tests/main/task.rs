//! Tasks and moments for tests.

use std::time::Duration;

use contract::order::Task;
use dashfleet_agent::clock::Moment;
use dashfleet_agent::engine::{Engine, Life};
use dashfleet_agent::policy::Policy;
use domain::action::ActionKind;
use domain::{ActionId, SessionId, Timestamp};
use serde_json::json;

/// A time that is far enough from everything.
pub fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).expect("a time")
}

/// Both clocks, so many milliseconds after the beginning.
pub fn moment(millis: u64) -> Moment {
    Moment { now: time(i64::try_from(millis).expect("small")), boot: Duration::from_secs(1_000) + Duration::from_millis(millis) }
}

/// A task that may begin within a day.
pub fn task(seq: i64, kind: ActionKind) -> Task {
    let payload = match kind {
        ActionKind::Ping | ActionKind::Restart => json!({}),
        ActionKind::Message => json!({ "message": "hello" }),
        ActionKind::Reboot => json!({ "delaySeconds": 60 }),
    };
    Task {
        action: ActionId::new(),
        seq,
        attempt: 1,
        kind,
        payload,
        idempotent: false,
        not_after: time(24 * 3_600 * 1_000),
        traceparent: None,
    }
}

/// A life in the boot of this name.
pub fn life(boot: &str) -> Life {
    Life { session: SessionId(uuid::Uuid::new_v4()), boot: boot.to_owned(), version: "1.2.3".into() }
}

/// An engine without a past.
pub fn engine() -> Engine {
    let mut engine = Engine::new(life("boot-a"), Policy::default());
    engine.begin(moment(0));
    for batch in engine.take_batches() {
        engine.durable(batch.id, moment(0));
    }
    engine
}

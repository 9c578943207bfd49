//! What the action service answers, for tests in which somebody plays it.

use contract::action::{Action, ActionCreate};
use domain::action::{ActionKind, ActionStatus};
use domain::{ActionId, Timestamp};

/// An action that has just been queued as it was asked for, but for its kind: that is always `ping`.
#[must_use]
pub fn queued(asked: ActionCreate) -> Action {
    Action {
        id: ActionId::new(),
        machine_id: asked.machine_id,
        kind: ActionKind::Ping,
        status: ActionStatus::Queued,
        payload: asked.payload,
        result: None,
        error: None,
        seq: 1,
        attempt: 1,
        idempotent: asked.idempotent,
        cancel_requested: false,
        late: false,
        not_after: Timestamp::now(),
        created_at: Timestamp::now(),
        delivered_at: None,
        started_at: None,
        finished_at: None,
    }
}

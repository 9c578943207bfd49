//! A row of `action.actions`, and what it becomes outside.

use chrono::{DateTime, Utc};
use contract::action::Action;
use contract::order::Task;
use domain::{ActionId, MachineId, OrgId};
use serde_json::Value;
use uuid::Uuid;

use crate::error::ActionError;

/// A row of `action.actions`.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct ActionRow {
    pub org_id: Uuid,
    pub id: Uuid,
    pub machine_id: Uuid,
    pub seq: i64,
    pub kind: String,
    pub payload: Value,
    pub idempotent: bool,
    pub status: String,
    pub attempt: i32,
    pub traceparent: Option<String>,
    pub not_after: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub offered_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub cancel_requested_at: Option<DateTime<Utc>>,
    pub result: Option<Value>,
    pub error: Option<Value>,
    pub late: bool,
    pub version: i64,
}

/// A column that holds what no service wrote.
pub(crate) fn unreadable(column: &str, error: &dyn std::fmt::Display) -> ActionError {
    ActionError::Bug(format!("action.actions.{column}: {error}"))
}

impl ActionRow {
    /// The organisation.
    #[must_use]
    pub fn org(&self) -> OrgId {
        self.org_id.into()
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        self.machine_id.into()
    }

    /// As users see it.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when a column holds what no service wrote.
    pub fn view(self) -> Result<Action, ActionError> {
        Ok(Action {
            id: self.id.into(),
            machine_id: self.machine_id.into(),
            kind: self
                .kind
                .parse()
                .map_err(|error: String| unreadable("kind", &error))?,
            status: self
                .status
                .parse()
                .map_err(|error: String| unreadable("status", &error))?,
            payload: self.payload,
            result: self.result,
            error: self
                .error
                .map(serde_json::from_value)
                .transpose()
                .map_err(|error| unreadable("error", &error))?,
            seq: self.seq,
            attempt: self.attempt,
            idempotent: self.idempotent,
            cancel_requested: self.cancel_requested_at.is_some(),
            late: self.late,
            not_after: self.not_after.into(),
            created_at: self.created_at.into(),
            delivered_at: self.delivered_at.map(Into::into),
            started_at: self.started_at.map(Into::into),
            finished_at: self.finished_at.map(Into::into),
        })
    }

    /// As the machine is told.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when a column holds what no service wrote.
    pub fn task(&self) -> Result<Task, ActionError> {
        Ok(Task {
            action: ActionId(self.id),
            seq: self.seq,
            attempt: self.attempt,
            kind: self
                .kind
                .parse()
                .map_err(|error: String| unreadable("kind", &error))?,
            payload: self.payload.clone(),
            idempotent: self.idempotent,
            not_after: self.not_after.into(),
            traceparent: self.traceparent.clone(),
        })
    }
}

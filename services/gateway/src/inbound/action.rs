//! What machines are told to do. [`create`] is the body that tells them.

use contract::action::{Action, ActionBatch, ActionCancel, ActionGet, ActionList, ActionPage};
use domain::action::ActionStatus;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use self::create::{Asked, Create};
use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, Maybe, Word};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

pub mod create;

/// The operations.
pub struct Actions {
    owners: Owners,
}

/// What was queued.
#[derive(ApiResponse)]
#[allow(clippy::large_enum_variant)] // one is made for each request, and shown at once
pub enum Created {
    /// With `machineId`: the action is committed.
    #[oai(status = 201)]
    Action(
        Shown<Action>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
    /// With `selector`: the actions are committed, one for each machine that was chosen.
    #[oai(status = 202)]
    Batch(Shown<ActionBatch>),
}

/// What became of the wish to cancel.
#[derive(ApiResponse)]
pub enum Cancelled {
    /// The action has ended; `CANCELLED` when it was not executed.
    #[oai(status = 200)]
    Ended(Shown<Action>),
    /// The machine may have the action already: it was asked not to begin, and its journal decides.
    #[oai(status = 202)]
    Requested(Shown<Action>),
}

impl Actions {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/actions", tag = "Tag::Actions")]
impl Actions {
    /// Queue an action for a machine, or for many
    ///
    /// A connected machine has it within milliseconds; another gets it when it returns, unless `notAfter` passes first.
    ///
    /// With `selector` every machine that it chooses gets an action of its own, or, when this is refused, none does: there
    /// is one commit. The credential needs `machines:read` besides. The same `Idempotency-Key` gives the same actions, as
    /// they are then, even if the selector would choose others meanwhile.
    #[oai(path = "/", method = "post", operation_id = "action_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same action.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<Create>,
    ) -> Result<Created, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        match body.0.asked(key.0)? {
            Asked::One(create) => {
                let action = self.owners.write(&caller, &create).await;
                let action = action.map_err(|problem| explain(problem, has_key, "action"))?;
                let location = format!("/api/v1/actions/{}", action.id);
                Ok(Created::Action(Shown(action), location))
            }
            Asked::Many(fan_out) => {
                caller.heavy()?;
                let batch = self.owners.write_many(&caller, &fan_out).await;
                let batch = batch.map_err(|problem| explain(problem, has_key, "action"))?;
                Ok(Created::Batch(Shown(batch)))
            }
        }
    }

    /// List actions
    ///
    /// The newest first.
    #[oai(path = "/", method = "get", operation_id = "action_list")]
    async fn list(
        &self,
        caller: Caller,
        /// Only of this machine.
        #[oai(name = "machineId")]
        machine_id: Query<Maybe<Word<Uuid>>>,
        /// Only in this status.
        status: Query<Maybe<Word<ActionStatus>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<ActionPage>, Refusal<Listing>> {
        let question = ActionList {
            machine_id: machine_id.0.value().map(Into::into),
            status: status.0.value(),
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get an action
    #[oai(path = "/:id", method = "get", operation_id = "action_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The action.
        id: Path<Id>,
    ) -> Result<Passed<Action>, Refusal<Question>> {
        let question = ActionGet {
            action_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Cancel an action
    ///
    /// Before it was offered to the machine it ends here; afterwards this is a request to the machine, and its journal
    /// decides.
    #[oai(path = "/:id/cancel", method = "post", operation_id = "action_cancel")]
    async fn cancel(
        &self,
        caller: Caller,
        /// The action.
        id: Path<Id>,
    ) -> Result<Cancelled, Refusal<Change>> {
        let action = self
            .owners
            .write(
                &caller,
                &ActionCancel {
                    action_id: id.0.0.into(),
                },
            )
            .await?;
        if action.status.is_terminal() {
            Ok(Cancelled::Ended(Shown(action)))
        } else {
            Ok(Cancelled::Requested(Shown(action)))
        }
    }
}

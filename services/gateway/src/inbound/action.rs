//! What machines are told to do.

use std::io;

use contract::action::{Action, ActionCancel, ActionCreate, ActionGet, ActionList, ActionPage};
use contract::{Problem, ProblemKind};
use domain::action::{ActionStatus, PAYLOAD_MAX_BYTES};
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use super::idempotency::IdempotencyKey;
use super::parameter::{Id, Limit, Maybe, Word};
use crate::caller::Caller;
use crate::document::Tag;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

/// The operations.
pub struct Actions {
    owners: Owners,
}

/// An action that was queued.
#[derive(ApiResponse)]
pub enum Created {
    /// The action is committed.
    #[oai(status = 201)]
    Action(
        Shown<Action>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
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
    /// Queue an action for a machine
    ///
    /// A connected machine has it within milliseconds; another gets it when it returns, unless `notAfter` passes first.
    #[oai(path = "/", method = "post", operation_id = "action_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same action.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<ActionCreate>,
    ) -> Result<Created, Refusal<ChangeWithBody>> {
        let Given(create) = body;
        check_payload(&create.payload)?;
        let create = ActionCreate {
            idempotency_key: key.0,
            ..create
        };
        let action = self
            .owners
            .write(&caller, &create)
            .await
            .map_err(|problem| explain(problem, &create))?;
        let location = format!("/api/v1/actions/{}", action.id);
        Ok(Created::Action(Shown(action), location))
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
    ) -> Result<Shown<ActionPage>, Refusal<Listing>> {
        let question = ActionList {
            machine_id: machine_id.0.value().map(Into::into),
            status: status.0.value(),
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Shown(self.owners.read(&caller, &question).await?))
    }

    /// Get an action
    #[oai(path = "/:id", method = "get", operation_id = "action_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The action.
        id: Path<Id>,
    ) -> Result<Shown<Action>, Refusal<Question>> {
        Ok(Shown(
            self.owners
                .read(
                    &caller,
                    &ActionGet {
                        action_id: id.0.0.into(),
                    },
                )
                .await?,
        ))
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

/// Counts the bytes of a payload's JSON text.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_payload(payload: &Value) -> Result<(), Refused> {
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, payload) {
        Ok(()) if count.0 <= PAYLOAD_MAX_BYTES => Ok(()),
        Ok(()) => {
            let message = format!("is {} bytes of JSON; at most {PAYLOAD_MAX_BYTES}", count.0);
            let errors = vec![contract::FieldError {
                path: "payload".to_owned(),
                message: message.clone(),
            }];
            Err(Refused {
                errors,
                ..Refused::new(Kind::TooLarge, format!("payload: {message}"))
            })
        }
        Err(_) => Err(Refused::internal()),
    }
}

/// Without a key, "repeat with the same key" helps nobody.
fn explain(problem: Problem, create: &ActionCreate) -> Problem {
    if problem.kind != ProblemKind::OutcomeUnknown || create.idempotency_key.is_some() {
        return problem;
    }
    let detail = format!(
        "{}; this request had none, so look whether the action exists before repeating it",
        problem.detail
    );
    Problem { detail, ..problem }
}

//! `builtin/action`: an action on behalf of who asked for the execution, with the right that this principal has now. Identity says
//! which it is, action checks it; here it is seen to that the attempt is still the worker's, and that the action is the one that its job
//! is about: a worker that is somebody else's by now does nothing in the name of those whose executions it is given.

use std::time::Duration;

use contract::action::{Action, ActionCreate};
use contract::identity::PrincipalGrant;
use contract::run::RunAct;
use contract::{Problem, ProblemKind};
use domain::builtin::{ActionConfig, Builtin, Given};
use serde_json::{Map, json};

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::row::principal_kind;
use crate::store::session::{self, Placed};

/// How long identity and action may take, each.
const PATIENCE: Duration = Duration::from_secs(5);

impl App {
    /// Queues an action for a handler.
    ///
    /// # Errors
    /// CONFLICT when the attempt is not this worker's any more, or not about this action; FORBIDDEN when the principal has no such
    /// right (any more); what the action service refuses; UNAVAILABLE.
    pub async fn run_act(&self, pool: &str, request: RunAct) -> Result<Action, SchedulerError> {
        let place = request.place;
        let found = session::place_get(self.pools.system(), pool, &place).await?;
        let Some(placed) = found else {
            return Err(conflict("this attempt is not this worker's any more").into());
        };
        if !is_of(&placed, &request.action) {
            let text = "this is not the action that the attempt's job says, which may have been edited meanwhile";
            return Err(conflict(text).into());
        }
        let principal = PrincipalGrant {
            org: place.org,
            kind: principal_kind(&placed.principal_kind)?,
            id: placed.principal_id,
            credential: placed.credential.into(),
        };
        let granted = self.bus.service_call(&principal, None, PATIENCE).await?;
        let token = Some(granted.grant.as_str());
        // However many attempts an execution has, it queues one action: what is repeated, after an answer that was lost, may find another
        // deadline, or a job that was edited.
        let action = ActionCreate {
            idempotency_key: Some(place.id.to_string()),
            by_key_alone: true,
            ..request.action
        };
        Ok(self.bus.service_call(&action, token, PATIENCE).await?)
    }
}

fn conflict(text: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, text)
}

/// Whether an action is what an attempt's job says.
fn is_of(placed: &Placed, action: &ActionCreate) -> bool {
    let empty = Map::new();
    let config = Given::of(placed.config.as_object().unwrap_or(&empty));
    let is_handler = Builtin::of(&placed.handler) == Some(Builtin::Action);
    let Some(said) = is_handler
        .then(|| ActionConfig::read(config).ok())
        .flatten()
    else {
        return false;
    };
    action.machine_id == said.machine
        && action.kind == said.kind.as_str()
        && action.payload == said.payload.cloned().unwrap_or_else(|| json!({}))
        && action.not_after.is_some() == said.not_after.is_some()
        && !action.idempotent
}

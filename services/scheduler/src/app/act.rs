//! `builtin/action`: an action on behalf of who asked for the execution, with the right that this principal has now. Identity says
//! which it is, action checks it; here it is only seen to that the attempt is still the worker's.

use std::time::Duration;

use contract::action::Action;
use contract::identity::PrincipalGrant;
use contract::run::RunAct;
use contract::{Problem, ProblemKind};

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::row::principal_kind;
use crate::store::session;

/// How long identity and action may take, each.
const PATIENCE: Duration = Duration::from_secs(5);

impl App {
    /// Queues an action for a handler.
    ///
    /// # Errors
    /// CONFLICT when the attempt is not this worker's any more; FORBIDDEN when the principal has no such right (any more);
    /// what the action service refuses; UNAVAILABLE.
    pub async fn run_act(&self, pool: &str, request: RunAct) -> Result<Action, SchedulerError> {
        let place = request.place;
        let found = session::place_get(self.pools.system(), pool, &place).await?;
        let Some((kind, id, credential)) = found else {
            let text = "this attempt is not this worker's any more";
            return Err(Problem::new(ProblemKind::Conflict, text).into());
        };
        let principal = PrincipalGrant {
            org: place.org,
            kind: principal_kind(&kind)?,
            id,
            credential: credential.into(),
        };
        let granted = self.bus.service_call(&principal, None, PATIENCE).await?;
        let token = Some(granted.grant.as_str());
        Ok(self
            .bus
            .service_call(&request.action, token, PATIENCE)
            .await?)
    }
}

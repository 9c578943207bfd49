//! Creating an action: one short transaction, then the reply and the doorbell.

use std::sync::Arc;

use contract::action::{Action, ActionCreate};
use contract::audit::Resource;
use contract::order::Verb;
use contract::{Author, Problem, ProblemKind};
use database::Tx;
use domain::action::{ActionKind, OPEN_MAX};
use domain::{ActionId, MachineId, OrgId};
use owner::idempotency::Key;

use crate::app::draft::Draft;
use crate::app::{App, audit};
use crate::error::ActionError;
use crate::store::action::{self, Created};
use crate::store::idempotency::KEYS;

/// What keys are filed under: one call for whoever gives them, whether it creates one action or many.
pub(crate) const ROUTE: &str = "actions.create";
/// What those are filed under that say alone which action is meant.
const ROUTE_BY_KEY: &str = "actions.create-by-key";

/// One action that somebody asks for.
pub(crate) struct Asked<'a> {
    /// Who.
    pub author: &'a Author,
    /// By which call.
    pub call: &'static str,
    /// Of which machine.
    pub machine: MachineId,
    /// With which key.
    pub key: Option<&'a Key>,
}

impl App {
    /// Queues an action.
    ///
    /// # Errors
    /// INVALID naming the field, FORBIDDEN, NOT_FOUND for a machine that the organisation does not have, CONFLICT
    /// for a revoked one, one with too many open actions, or a key used for another body, TOO_LARGE, UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn action_create(
        self: &Arc<Self>,
        author: &Author,
        request: ActionCreate,
    ) -> Result<Action, ActionError> {
        let draft = Draft::check(
            author,
            &request.kind,
            &request.payload,
            request.not_after,
            request.idempotent,
        )?;
        let key = request.idempotency_key.as_deref();
        let key = match request.by_key_alone {
            true => Key::of(&KEYS, ROUTE_BY_KEY, key, &())?,
            false => Key::of(&KEYS, ROUTE, key, &request)?,
        };
        let asked = Asked {
            author,
            call: "action.create",
            machine: request.machine_id,
            key: key.as_ref(),
        };
        self.action_draft_create(&asked, &draft).await
    }

    /// Queues what was checked.
    pub(crate) async fn action_draft_create(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        draft: &Draft,
    ) -> Result<Action, ActionError> {
        match self.create_try(asked, draft).await {
            // It may have enrolled a moment ago: identity knows.
            Err(ActionError::Problem(problem)) if problem.kind == ProblemKind::NotFound => {
                if let Err(error) = self.mirror_now().await {
                    tracing::debug!(%error, "identity was not asked for a machine that is not known here");
                }
                self.create_try(asked, draft).await
            }
            tried => tried,
        }
    }

    async fn create_try(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        draft: &Draft,
    ) -> Result<Action, ActionError> {
        let (org, machine) = (asked.author.org, asked.machine);
        let id = ActionId::new();
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = asked.key
            && let Some(made) = key.take_in_tx(&mut tx, org, &[id.0]).await?
        {
            let made = made.first().copied().unwrap_or_default();
            let earlier = action::action_get_in_tx(&mut tx, org, made.into()).await?;
            return earlier.ok_or_else(|| Problem::not_found("action"))?.view();
        }
        draft.check_deadline()?;
        let resource = Resource::of("action", id).named(draft.kind.as_str());
        let noted = asked
            .author
            .did(asked.call, resource)
            .after(draft.told("machineId", machine.to_string()));
        let noted = audit::row(noted)?;
        let Some(Created {
            action,
            fingerprint,
        }) = action::action_create_in_tx(&mut tx, machine, id, &draft.new_action(), &noted).await?
        else {
            return Err(refusal_in_tx(&mut tx, org, machine, draft.kind)
                .await?
                .into());
        };
        tx.commit().await?;
        self.audit_relay.wake();
        let kind = [draft.kind.as_str()];
        self.metrics.created.with_label_values(&kind).inc();
        if action.offered_at.is_some() {
            // A doorbell: if it is lost, it rings again in a second.
            let (app, row) = (self.clone(), action.clone());
            tokio::spawn(tracing::Instrument::in_current_span(async move {
                app.ring(&row, &fingerprint, Verb::New).await;
            }));
        }
        action.view()
    }
}

/// Why a machine got no action.
async fn refusal_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    kind: ActionKind,
) -> Result<Problem, ActionError> {
    let conflict = |detail: String| Problem::new(ProblemKind::Conflict, detail);
    Ok(
        match action::machine_standing_in_tx(tx, org, machine).await? {
            Some((true, _)) => conflict("the machine is revoked".into()),
            Some((false, true)) if !kind.is_legacy() => Problem::invalid(
                "kind",
                format!(
                    "a machine over HTTP does not know `{kind}`; it takes message, restart, reboot"
                ),
            ),
            Some((false, _)) => conflict(format!(
                "the machine has {OPEN_MAX} actions that have not ended, and gets no more until some have"
            )),
            None => Problem::not_found("machine"),
        },
    )
}

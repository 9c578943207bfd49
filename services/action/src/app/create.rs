//! Creating an action: one short transaction, then the reply and the doorbell.

use std::sync::Arc;

use contract::action::{Action, ActionCreate};
use contract::grant::Grant;
use contract::order::Verb;
use contract::{Problem, ProblemKind};
use database::Tx;
use domain::action::{ActionKind, OPEN_MAX};
use domain::{ActionId, MachineId, OrgId};

use crate::app::App;
use crate::app::draft::Draft;
use crate::app::idempotency::Key;
use crate::error::ActionError;
use crate::store::action::{self, Created};

impl App {
    /// Queues an action.
    ///
    /// # Errors
    /// INVALID naming the field, FORBIDDEN, NOT_FOUND for a machine that the organisation does not have, CONFLICT
    /// for a revoked one, one with too many open actions, or a key used for another body, TOO_LARGE, UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn action_create(
        self: &Arc<Self>,
        grant: &Grant,
        request: ActionCreate,
    ) -> Result<Action, ActionError> {
        let draft = Draft::check(
            grant,
            &request.kind,
            &request.payload,
            request.not_after,
            request.idempotent,
        )?;
        let key = Key::of(request.idempotency_key.as_deref(), &request)?;
        self.action_draft_create(grant.org, request.machine_id, &draft, key)
            .await
    }

    /// Queues what was checked.
    pub(crate) async fn action_draft_create(
        self: &Arc<Self>,
        org: OrgId,
        machine: MachineId,
        draft: &Draft,
        key: Option<Key>,
    ) -> Result<Action, ActionError> {
        match self.create_try(org, machine, draft, key.as_ref()).await {
            // It may have enrolled a moment ago: identity knows.
            Err(ActionError::Problem(problem)) if problem.kind == ProblemKind::NotFound => {
                if let Err(error) = self.mirror_now().await {
                    tracing::debug!(%error, "identity was not asked for a machine that is not known here");
                }
                self.create_try(org, machine, draft, key.as_ref()).await
            }
            tried => tried,
        }
    }

    async fn create_try(
        self: &Arc<Self>,
        org: OrgId,
        machine: MachineId,
        draft: &Draft,
        key: Option<&Key>,
    ) -> Result<Action, ActionError> {
        let id = ActionId::new();
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = key
            && let Some(made) = key
                .take_in_tx(&mut tx, org, &[id.0], draft.created_at)
                .await?
        {
            let made = made.first().copied().unwrap_or_default();
            let earlier = action::action_get_in_tx(&mut tx, org, made.into()).await?;
            return earlier.ok_or_else(|| Problem::not_found("action"))?.view();
        }
        draft.check_deadline()?;
        let Some(Created {
            action,
            fingerprint,
        }) = action::action_create_in_tx(&mut tx, org, machine, id, &draft.new_action()).await?
        else {
            return Err(refusal_in_tx(&mut tx, org, machine, draft.kind)
                .await?
                .into());
        };
        tx.commit().await?;
        self.metrics
            .created
            .with_label_values(&[draft.kind.as_str()])
            .inc();
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

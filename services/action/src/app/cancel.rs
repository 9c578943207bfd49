//! Cancelling: before the offer the server ends an action; afterwards it asks the machine, whose journal decides.

use std::sync::Arc;

use contract::action::Action;
use contract::audit::Resource;
use contract::order::Verb;
use contract::{Author, Problem, ProblemKind};
use domain::access::ACTIONS_WRITE;
use domain::action::ActionStatus;
use domain::{ActionId, Timestamp};
use serde_json::json;

use crate::app::{App, audit};
use crate::error::ActionError;
use crate::store::action;
use crate::store::ended::Ended;
use crate::store::row::ActionRow;

impl App {
    /// Cancels an action, or asks for it.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, CONFLICT when it has ended otherwise, UNAVAILABLE.
    pub async fn action_cancel(
        self: &Arc<Self>,
        author: &Author,
        id: ActionId,
    ) -> Result<Action, ActionError> {
        author.require(ACTIONS_WRITE)?;
        let now = Timestamp::now().utc();
        let mut tx = self.pools.tenant_tx(author.org).await?;
        let row = action::action_lock_in_tx(&mut tx, author.org, id)
            .await?
            .ok_or_else(|| Problem::not_found("action"))?;
        let status: ActionStatus = row.status.parse().map_err(ActionError::Bug)?;
        if status == ActionStatus::Cancelled {
            return row.view();
        }
        if status.is_terminal() {
            return Err(Problem::new(
                ProblemKind::Conflict,
                format!("the action has ended: {status}"),
            )
            .into());
        }
        let told = |row: &ActionRow| json!({ "status": row.status, "cancelRequested": row.cancel_requested_at.is_some() });
        let resource = Resource::of("action", id).named(row.kind.as_str());
        let entry = author.did("action.cancel", resource).before(told(&row));
        if let Some(ended) = action::action_cancel_now_in_tx(&mut tx, author.org, id, now).await? {
            Ended::from(&ended)
                .event()
                .insert_in_tx("action", &mut tx)
                .await?;
            audit::note_in_tx(&mut tx, entry.after(told(&ended))).await?;
            tx.commit().await?;
            self.audit_relay.wake();
            self.show(&ended).await;
            return ended.view();
        }
        let asked = action::action_cancel_request_in_tx(&mut tx, author.org, id, now).await?;
        let fingerprint = action::fingerprint_in_tx(&mut tx, author.org, row.machine()).await?;
        if let Some(asked) = &asked {
            audit::note_in_tx(&mut tx, entry.after(told(asked))).await?;
        }
        tx.commit().await?;
        self.audit_relay.wake();
        let row = asked.unwrap_or(row);
        if let Some(fingerprint) = fingerprint {
            self.ring(&row, &fingerprint, Verb::Cancel).await;
        }
        self.show(&row).await;
        row.view()
    }
}

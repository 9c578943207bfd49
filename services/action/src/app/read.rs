//! Looking at actions.

use contract::Problem;
use contract::action::{Action, ActionList, ActionPage};
use contract::grant::Grant;
use domain::ActionId;
use domain::access::ACTIONS_READ;
use uuid::Uuid;

use crate::app::App;
use crate::error::ActionError;
use crate::store::action;

/// The longest page.
const LIMIT_MAX: u32 = 200;
/// A page ends early when its payloads and results reach this many bytes.
const PAGE_MAX_BYTES: usize = 1024 * 1024;

impl App {
    /// An action.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn action_get(&self, grant: &Grant, id: ActionId) -> Result<Action, ActionError> {
        grant.require(ACTIONS_READ)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = action::action_get_in_tx(&mut tx, grant.org, id).await?;
        row.ok_or_else(|| Problem::not_found("action"))?.view()
    }

    /// A page of actions, newest first.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn action_list(
        &self,
        grant: &Grant,
        request: ActionList,
    ) -> Result<ActionPage, ActionError> {
        grant.require(ACTIONS_READ)?;
        if !(1..=LIMIT_MAX).contains(&request.limit) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")).into());
        }
        let before = match &request.cursor {
            None => Uuid::max(),
            Some(cursor) => {
                cursor
                    .parse::<ActionId>()
                    .map_err(|_| Problem::invalid("cursor", "is not one that this list gave"))?
                    .0
            }
        };
        let status = request.status.map(domain::action::ActionStatus::as_str);
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let limit = i64::from(request.limit);
        let rows = action::action_list_in_tx(
            &mut tx,
            grant.org,
            request.machine_id,
            status,
            before,
            limit + 1,
        )
        .await?;
        drop(tx);
        let found = rows.len();
        let mut items = Vec::with_capacity(found);
        let mut bytes = 0;
        for row in rows.into_iter().take(request.limit as usize) {
            let length = |value: &Option<serde_json::Value>| {
                value.as_ref().map_or(0, |value| value.to_string().len())
            };
            bytes += row.payload.to_string().len() + length(&row.result) + length(&row.error);
            if bytes > PAGE_MAX_BYTES && !items.is_empty() {
                break;
            }
            items.push(row.view()?);
        }
        let more = items.len() < found;
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|action: &Action| action.id.token());
        Ok(ActionPage { items, next_cursor })
    }
}

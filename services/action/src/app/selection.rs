//! Which machines a selector chooses: metrics says so, to whom the caller's own grant is shown.

use std::time::Duration;

use contract::Problem;
use contract::metrics::{MachineSelect, SELECT_LIMIT_MAX};
use domain::action::FAN_OUT_MAX;
use domain::labels::{LabelError, Selector};
use domain::{MachineId, OrgId};
use uuid::Uuid;

use crate::app::App;
use crate::error::ActionError;
use crate::store::fan_out;

/// How long metrics may take to answer with one page.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The parser is the one of `GET /machines?selector=`, which takes the empty selector for the whole fleet: here that
/// would be an accident.
///
/// # Errors
/// INVALID naming `selector`.
pub(crate) fn check_selector(text: &str) -> Result<Selector, Problem> {
    Selector::of_some(text).map_err(|error: LabelError| Problem::invalid(error.path, error.message))
}

impl App {
    /// The machines that metrics says the caller may see and the selector chooses, sorted; `token` is the caller's grant.
    ///
    /// # Errors
    /// INVALID naming `selector` when it chooses too many; what metrics refuses; UNAVAILABLE when it is away.
    pub(crate) async fn machines_select(
        &self,
        selector: &Selector,
        token: Option<&str>,
    ) -> Result<Vec<MachineId>, ActionError> {
        let mut machines: Vec<MachineId> = Vec::new();
        let mut cursor = None;
        loop {
            // One more than there may be, to know that there are too many.
            let missing = (FAN_OUT_MAX + 1).saturating_sub(machines.len());
            let request = MachineSelect {
                selector: selector.to_string(),
                limit: u32::try_from(missing).map_or(SELECT_LIMIT_MAX, |n| n.min(SELECT_LIMIT_MAX)),
                cursor,
            };
            let page = self.bus.service_call(&request, token, CALL_TIMEOUT).await?;
            // Each turn brings something, so the bound ends the loop whatever metrics says.
            let end = page.items.is_empty() || page.next_cursor.is_none();
            cursor = page.next_cursor;
            machines.extend(page.items);
            if machines.len() > FAN_OUT_MAX {
                let message = format!(
                    "chooses more than {FAN_OUT_MAX} machines; narrow it, at most {FAN_OUT_MAX} are taken in one request"
                );
                return Err(Problem::invalid("selector", message).into());
            }
            if end {
                machines.sort_unstable();
                machines.dedup();
                return Ok(machines);
            }
        }
    }

    /// Reads identity's feed when metrics has heard of a machine that is not mirrored here yet: nobody is to be left
    /// out because it enrolled a moment ago.
    ///
    /// # Errors
    /// UNAVAILABLE when identity or the database is away.
    pub(crate) async fn machines_ensure(
        &self,
        org: OrgId,
        machines: &[MachineId],
    ) -> Result<(), ActionError> {
        if machines.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = machines.iter().map(|machine| machine.0).collect();
        let mut tx = self.pools.tenant_tx(org).await?;
        let known = fan_out::machines_known_in_tx(&mut tx, org, &ids).await?;
        drop(tx);
        if known < ids.len() {
            self.mirror_now().await?;
        }
        Ok(())
    }
}

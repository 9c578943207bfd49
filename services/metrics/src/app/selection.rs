//! What a selector chooses, for a service that acts for a user: ids alone, page by page.

use contract::metrics::{MachineSelect, MachineSelection, SELECT_LIMIT_MAX};
use contract::{Grant, Problem};
use domain::access::MACHINES_READ;

use crate::app::App;
use crate::app::machine::selector;
use crate::error::MetricsError;
use crate::store;

impl App {
    /// A page of the organisation's machines that a selector chooses. The grant is the user's, forwarded: the service
    /// that asks can see no more than the user may.
    ///
    /// # Errors
    /// FORBIDDEN without the scope; INVALID naming `selector` or `limit`; UNAVAILABLE.
    pub async fn machine_select(
        &self,
        grant: &Grant,
        request: &MachineSelect,
    ) -> Result<MachineSelection, MetricsError> {
        grant.require(MACHINES_READ)?;
        if !(1..=SELECT_LIMIT_MAX).contains(&request.limit) {
            let message = format!("must be from 1 to {SELECT_LIMIT_MAX}");
            return Err(Problem::invalid("limit", message).into());
        }
        let Some(filter) = selector(&request.selector)?.filter() else {
            return Ok(MachineSelection {
                items: Vec::new(),
                next_cursor: None,
            });
        };
        let limit = request.limit as usize;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let mut items =
            store::selection::page(&mut tx, &filter, request.cursor, limit as i64 + 1).await?;
        drop(tx);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().copied().filter(|_| more);
        Ok(MachineSelection { items, next_cursor })
    }
}

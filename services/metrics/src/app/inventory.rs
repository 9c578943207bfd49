//! Inventory: what a machine is, as its agent says.

use bus::AgentSender;
use contract::agent::{Inventory, Noted};
use contract::{Problem, ProblemKind};

use crate::app::{App, Standing};
use crate::error::MetricsError;
use crate::store;

impl App {
    /// Takes an inventory, and answers after the commit.
    ///
    /// # Errors
    /// INVALID naming the field; FORBIDDEN when the machine was revoked; UNAVAILABLE when it is not known yet.
    pub async fn inventory_report(
        &self,
        from: AgentSender,
        inventory: Inventory,
    ) -> Result<Noted, MetricsError> {
        inventory.check("")?;
        let value = serde_json::to_value(&inventory)
            .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
        self.machine_write(from, || self.inventory_write(from, &value))
            .await?;
        Ok(Noted { noted: true })
    }

    async fn inventory_write(
        &self,
        from: AgentSender,
        inventory: &serde_json::Value,
    ) -> Result<Standing, MetricsError> {
        let mut tx = self.pools.tenant_tx(from.org).await?;
        let standing = store::machine::set_inventory(&mut tx, from.machine, inventory).await?;
        tx.commit().await?;
        Ok(standing)
    }
}

//! Inventory of agents (`df.up.….inventory`).

use std::sync::Arc;

use bus::{AgentSender, BusError, Service};
use contract::agent::Inventory;
use contract::subject::Up;

use crate::app::App;

/// Answers it.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let app = app.clone();
    service
        .answer_agent(
            Up::Inventory,
            move |from: AgentSender, inventory: Inventory| {
                let app = app.clone();
                async move { Ok(app.inventory_report(from, inventory).await?) }
            },
        )
        .await
}

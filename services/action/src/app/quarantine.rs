//! Telling identity whom this service quarantined, until it has taken note.

use std::sync::Arc;
use std::time::Duration;

use contract::identity::MachineQuarantine;

use crate::app::App;
use crate::error::ActionError;
use crate::store::machine;

/// How often there is a look.
const TICK: Duration = Duration::from_millis(500);
/// How long identity may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Reports quarantines for ever.
pub async fn report(app: Arc<App>) {
    loop {
        tokio::time::sleep(TICK).await;
        if let Err(error) = report_once(&app).await {
            tracing::debug!(%error, "identity has not heard of a quarantine yet");
        }
    }
}

async fn report_once(app: &App) -> Result<(), ActionError> {
    for (org, machine, reason) in machine::quarantines_unreported(app.pools.system()).await? {
        let (org, machine_id) = (org.into(), machine.into());
        let reason = reason.unwrap_or_else(|| "quarantined".into());
        let told = app
            .bus
            .service_call(
                &MachineQuarantine {
                    org,
                    machine_id,
                    reason,
                },
                None,
                CALL_TIMEOUT,
            )
            .await;
        match told {
            Ok(_) => machine::quarantine_reported(app.pools.system(), org, machine_id).await?,
            // One that is refused must not keep the others waiting.
            Err(problem) => {
                tracing::warn!(%problem, machine = %machine_id, "identity does not take a quarantine");
            }
        }
    }
    Ok(())
}

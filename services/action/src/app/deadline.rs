//! What time does: expiry of what was never offered, giving up on what is overdue, forgetting old keys.

use std::sync::Arc;
use std::time::Duration;

use database::Tx;
use domain::Timestamp;

use crate::app::App;
use crate::error::ActionError;
use crate::store::deadline;
use crate::store::ended::{self, Ended};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);
/// The most actions that one transaction ends.
const LIMIT: i64 = 500;
/// How many ended actions are read at once to be shown.
const SHOWN_AT_ONCE: usize = 100;
/// How many ticks between two rounds of forgetting: a minute.
const FORGET_EVERY: u32 = 120;
/// How long an `Idempotency-Key` is kept.
const KEYS_KEPT: chrono::Duration = chrono::Duration::hours(24);
/// How long a replaced life is remembered.
const SESSIONS_KEPT: chrono::Duration = chrono::Duration::days(30);

/// Looks at deadlines for ever.
pub async fn tick(app: Arc<App>) {
    let mut ticks: u32 = 0;
    loop {
        tokio::time::sleep(TICK).await;
        ticks = ticks.wrapping_add(1);
        if let Err(error) = look(&app, ticks.is_multiple_of(FORGET_EVERY)).await {
            tracing::debug!(%error, "deadlines wait");
        }
    }
}

async fn look(app: &App, forget: bool) -> Result<(), ActionError> {
    let now = Timestamp::now();
    let mut tx = app.pools.system_tx().await?;
    let mut ended = deadline::actions_expire_in_tx(&mut tx, now.utc(), LIMIT).await?;
    ended.extend(deadline::actions_give_up_in_tx(&mut tx, now.utc(), LIMIT).await?);
    if forget {
        deadline::forget_in_tx(
            &mut tx,
            now.plus(-KEYS_KEPT).utc(),
            now.plus(-SESSIONS_KEPT).utc(),
        )
        .await?;
    }
    app.end_in_tx(tx, &ended).await
}

impl App {
    /// Commits a transaction that ended these actions, with their events, and shows them.
    pub(crate) async fn end_in_tx(&self, mut tx: Tx, ended: &[Ended]) -> Result<(), ActionError> {
        for one in ended {
            one.event().insert_in_tx("action", &mut tx).await?;
        }
        tx.commit().await?;
        self.show_ended(ended).await;
        Ok(())
    }

    /// Shows actions that the server ended, a portion at a time. After the commit; never fails.
    pub(crate) async fn show_ended(&self, ended: &[Ended]) {
        for of_one in ended.chunk_by(|one, next| one.org_id == next.org_id) {
            for portion in of_one.chunks(SHOWN_AT_ONCE) {
                let Some(org) = portion.first().map(|one| one.org_id.into()) else {
                    continue;
                };
                let ids: Vec<_> = portion.iter().map(|one| one.id).collect();
                match ended::rows(self.pools.system(), org, &ids).await {
                    Ok(rows) => {
                        for row in rows {
                            self.show(&row).await;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "nobody is shown what ended"),
                }
            }
        }
    }
}

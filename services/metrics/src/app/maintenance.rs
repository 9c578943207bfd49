//! What is kept for how long: partitions of samples, made ahead and dropped when everything in them is older than the
//! retention; changes of presence, forgotten in portions.

use std::sync::Arc;

use domain::Timestamp;

use crate::app::App;
use crate::app::bounds::RETENTION;
use crate::app::history;
use crate::error::MetricsError;
use crate::metrics::Count;
use crate::store;
use crate::store::partition;

/// Days ahead for which there is a partition: an outage of the service, or of its maintenance, may last so long.
const DAYS_AHEAD: i32 = 3;
/// Days back for which there is a partition: samples of the whole retention are taken, whatever the time zone.
const DAYS_BACK: i32 = RETENTION.num_days() as i32 + 1;
/// How many changes of presence are forgotten at once, and how often in one round.
const PURGE_PORTION: i64 = 5_000;
const PURGE_PORTIONS: u32 = 20;
/// How soon a failed maintenance is tried again.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Maintains at start, regularly, and when a partition was missed.
pub async fn run(app: Arc<App>) {
    loop {
        match app.partitions_maintain().await {
            Ok(()) => {
                let _woken =
                    tokio::time::timeout(app.timing.maintain, app.maintain.notified()).await;
            }
            Err(error) => tracing::warn!(%error, "partitions could not be maintained"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl App {
    /// Makes and drops partitions. Replicas do it one after another (an advisory lock in the functions).
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn partitions_maintain(&self) -> Result<(), MetricsError> {
        let made = partition::ensure(self.pools.system(), DAYS_BACK, DAYS_AHEAD).await?;
        let dropped = partition::drop(self.pools.system(), DAYS_BACK).await?;
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions of samples");
        }
        self.metrics.add(
            Count::PartitionsDropped,
            u64::try_from(dropped).unwrap_or(0),
        );
        let before = Timestamp::now().plus(-history::KEPT).utc();
        // A portion at a time; the rest an hour later, if there is so much.
        for _ in 0..PURGE_PORTIONS {
            if store::history::purge(self.pools.system(), before, PURGE_PORTION).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

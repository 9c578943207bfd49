//! Partitions for the days to come, and what is old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use database::DatabaseError;

use crate::app::App;
use crate::store::{chores, limits};

/// Partitions are made so many days ahead.
const AHEAD_DAYS: i32 = 3;
/// How often.
const EVERY: Duration = Duration::from_secs(600);
/// How soon again while there are none, or the database is away.
const SOON: Duration = Duration::from_secs(1);
/// How many rows one statement forgets.
const AT_ONCE: i64 = 1_000;

/// Keeps order, for ever.
pub async fn run(app: Arc<App>, days: i32) {
    loop {
        match keep(&app, days).await {
            Ok(()) => tokio::time::sleep(EVERY).await,
            Err(error) => {
                tracing::debug!(%error, "what is old stays for now");
                tokio::time::sleep(SOON).await;
            }
        }
    }
}

async fn keep(app: &App, days: i32) -> Result<(), DatabaseError> {
    let system = app.pools.system();
    chores::partitions_ensure(system, AHEAD_DAYS).await?;
    app.partitioned.store(true, Ordering::Relaxed);
    let dropped = chores::partitions_drop(system, days).await?;
    if dropped > 0 {
        tracing::info!(dropped, days, "executions that ended long ago are gone");
    }
    while chores::keys_forget(system, AT_ONCE).await? == AT_ONCE.unsigned_abs() {}
    while limits::limits_tidy(system).await? == AT_ONCE.unsigned_abs() {}
    Ok(())
}

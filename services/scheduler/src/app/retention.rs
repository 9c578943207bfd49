//! Partitions for the days to come, and what is old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use database::DatabaseError;
use tokio::time::timeout;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::{chores, limits};

/// Partitions are made so many days ahead.
const AHEAD_DAYS: i32 = 3;
/// How often.
const EVERY: Duration = Duration::from_secs(600);
/// How soon again while there are none, or the database is away; and how often at most when some were missed.
const SOON: Duration = Duration::from_secs(1);
/// How many rows one statement forgets.
const AT_ONCE: i64 = 1_000;
/// How many days' partitions that were missed one statement makes.
const MISSED_AT_ONCE: i64 = 30;

/// Keeps order, for ever.
pub async fn run(app: Arc<App>, days: i32) {
    let mut missed = false;
    loop {
        let kept = keep(&app, days, missed).await;
        tokio::time::sleep(SOON).await;
        match kept {
            // Who missed one during the above is heard here.
            Ok(()) => missed = timeout(EVERY, app.maintain.notified()).await.is_ok(),
            Err(error) => tracing::debug!(%error, "what is old stays for now"),
        }
    }
}

impl App {
    /// What could not be ended, and why. When it was for want of a partition, that is made now, and is only a matter of time: an
    /// execution's day is that of the clock of the replica which made it, partitions are made by the database's.
    pub(crate) fn heed(&self, error: SchedulerError) -> SchedulerError {
        match error {
            SchedulerError::Database(error) if error.is_partition_missing() => {
                self.maintain.notify_one();
                let text = "a partition is missing and is being made";
                DatabaseError::Unavailable(text.into()).into()
            }
            other => other,
        }
    }
}

async fn keep(app: &App, days: i32, missed: bool) -> Result<(), DatabaseError> {
    let system = app.pools.system();
    if missed {
        let made = chores::partitions_ensure_open(system, MISSED_AT_ONCE).await?;
        tracing::warn!(
            made,
            "partitions were missed: is a clock wrong? they are made"
        );
    }
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

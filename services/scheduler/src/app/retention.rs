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
    loop {
        let kept = keep(&app, days).await;
        tokio::time::sleep(SOON).await;
        let pause = if kept { EVERY } else { SOON };
        // Who missed one during the above is heard here.
        if timeout(pause, app.maintain.notified()).await.is_ok() {
            missed(&app).await;
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

/// Makes the partitions that open executions lack.
async fn missed(app: &App) {
    match chores::partitions_ensure_open(app.pools.system(), MISSED_AT_ONCE).await {
        Ok(made) => tracing::warn!(
            made,
            "partitions were missed: is a clock wrong? they are made"
        ),
        Err(error) => {
            tracing::debug!(%error, "partitions that were missed are made later");
            app.maintain.notify_one();
        }
    }
}

/// Each chore by itself: one that fails holds back no other. Says whether all were done.
async fn keep(app: &App, days: i32) -> bool {
    let system = app.pools.system();
    let ensured = async {
        chores::partitions_ensure(system, AHEAD_DAYS).await?;
        app.partitioned.store(true, Ordering::Relaxed);
        Ok(())
    };
    let dropped = async {
        // A day at a time.
        loop {
            let dropped = chores::partitions_drop(system, days).await?;
            if dropped == 0 {
                return Ok(());
            }
            tracing::info!(dropped, days, "executions that ended long ago are gone");
        }
    };
    let forgotten = async {
        while chores::keys_forget(system, AT_ONCE).await? == AT_ONCE.unsigned_abs() {}
        Ok(())
    };
    let tidied = async {
        while limits::limits_tidy(system).await? == AT_ONCE.unsigned_abs() {}
        Ok(())
    };
    let mut kept = done("partitions are made", ensured).await;
    kept &= done("what is old is dropped", dropped).await;
    kept &= done("old keys are forgotten", forgotten).await;
    kept & done("counters that nobody uses go", tidied).await
}

async fn done(what: &str, chore: impl Future<Output = Result<(), DatabaseError>>) -> bool {
    let done = chore.await;
    if let Err(error) = &done {
        tracing::debug!(%error, what, "not this time");
    }
    done.is_ok()
}

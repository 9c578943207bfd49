//! What time decides: machines whose grace is over, servers that fell silent, inventories whose changes are to be told,
//! sessions that can be forgotten.
//! Every replica watches; what one has done the others find done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::Tx;

use crate::app::App;
use crate::error::MetricsError;
use crate::metrics::Level;
use crate::store;

/// How often is looked for silent servers.
const SERVERS: Duration = Duration::from_secs(1);
/// How often machines online are counted, and old sessions forgotten.
const CHORES: Duration = Duration::from_secs(15);
/// A watch that itself stood still for so long has heard nothing: it begins anew.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Watches for ever.
pub async fn run(app: Arc<App>) {
    let mut servers = Instant::now();
    let mut chores: Option<Instant> = None;
    let mut listening = Listening::default();
    loop {
        tokio::time::sleep(app.timing.tick).await;
        let mut hears = app.tracking.is_on();
        match app.watch_look(hears).await {
            Ok(true) if hears => {
                if let Err(error) = app.offline_due().await {
                    tracing::warn!(%error, "machines whose grace is over could not be turned offline");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the watch waits for the database");
                hears = false;
                app.tracking.lose();
            }
        }
        if listening.note(hears, Instant::now()) == Lapse::Stood {
            tracing::warn!("this process stood still");
            app.tracking.lose();
        }
        if servers.elapsed() >= SERVERS && listening.has_lasted(app.timing.silence, Instant::now())
        {
            servers = Instant::now();
            if let Err(error) = app.servers_watch().await {
                tracing::warn!(%error, "silent servers could not be judged");
            }
        }
        if let Err(error) = app.inventories_tell().await {
            tracing::debug!(%error, "changes of inventories wait to be told");
        }
        if chores.is_none_or(|last| last.elapsed() >= CHORES) {
            chores = Some(Instant::now());
            if let Err(error) = app.watch_chores().await {
                tracing::debug!(%error, "the watch's chores wait");
            }
        }
    }
}

/// Since when signs of life could have been heard and noted without a break. Who was deaf judges nobody silent.
#[derive(Debug, Default)]
struct Listening {
    since: Option<Instant>,
    noted: Option<Instant>,
}

/// Whether the watch itself stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lapse {
    None,
    Stood,
}

impl Listening {
    fn note(&mut self, hears: bool, now: Instant) -> Lapse {
        let stood_still = self
            .noted
            .is_some_and(|noted| now.duration_since(noted) > STANDSTILL);
        self.noted = Some(now);
        self.since = match self.since {
            Some(since) if hears && !stood_still => Some(since),
            _ => hears.then_some(now),
        };
        if stood_still {
            Lapse::Stood
        } else {
            Lapse::None
        }
    }

    fn has_lasted(&self, silence: Duration, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.duration_since(since) >= silence)
    }
}

impl App {
    /// Whether somebody's grace is over; and who hears notes that it watches.
    async fn watch_look(&self, hears: bool) -> Result<bool, MetricsError> {
        let watched =
            !hears || store::presence::watched(self.pools.system(), self.timing.outage).await?;
        if !watched {
            let mut tx = self.pools.system_tx().await?;
            store::presence::lock_in_tx(&mut tx).await?;
            self.watch_resume_in_tx(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(store::presence::any_due(self.pools.system()).await?)
    }

    /// When nobody watched for a while, nobody heard machines over HTTP either: bus, database or all replicas were away,
    /// and their time ran out meanwhile. So they are given some before they are judged. Under the lock, in the transaction
    /// that judges: whoever stood still since it looked does not judge by what it saw then.
    async fn watch_resume_in_tx(&self, tx: &mut Tx) -> Result<(), MetricsError> {
        if store::presence::watched(&mut **tx, self.timing.outage).await? {
            return Ok(());
        }
        let spared = store::presence::watched_again_in_tx(tx, self.timing.http_return).await?;
        if spared > 0 {
            tracing::warn!(
                machines = spared,
                "nobody watched for a while; machines over HTTP have time to report again"
            );
        }
        Ok(())
    }

    /// Turns machines offline whose grace is over.
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn offline_due(&self) -> Result<(), MetricsError> {
        loop {
            let mut tx = self.pools.system_tx().await?;
            store::presence::lock_in_tx(&mut tx).await?;
            self.watch_resume_in_tx(&mut tx).await?;
            let went = store::presence::set_offline_in_tx(&mut tx, self.timing.silence).await?;
            tx.commit().await?;
            self.presence_announce(&went).await;
            if went.is_empty() {
                return Ok(());
            }
        }
    }

    async fn servers_watch(&self) -> Result<(), MetricsError> {
        for server_id in store::server::silent(self.pools.system(), self.timing.silence).await? {
            self.server_lost(&server_id).await?;
        }
        Ok(())
    }

    async fn watch_chores(&self) -> Result<(), MetricsError> {
        self.metrics.set(
            Level::MachinesOnline,
            store::presence::count_online(self.pools.system()).await?,
        );
        Ok(store::session::purge(self.pools.system()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_deaf_or_stood_still_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let silence = Duration::from_secs(25);
        let mut listening = Listening::default();
        for second in 0..=25 {
            listening.note(true, at(second));
        }
        assert!(listening.has_lasted(silence, at(25)));
        listening.note(false, at(26));
        assert!(!listening.has_lasted(silence, at(60)));
        listening.note(true, at(27));
        assert_eq!(listening.note(true, at(60)), Lapse::Stood);
        assert!(
            !listening.has_lasted(silence, at(60)),
            "it stood still from 27 to 60"
        );
    }
}

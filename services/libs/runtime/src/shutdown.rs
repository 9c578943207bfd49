//! The end: one token that everybody watches, and that tests can pull.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// How long connections may take to close after everything else, whose time may be used up: what is not flushed by then
/// has nobody who takes it.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// Tells everybody to end, and waits for them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins when the process is told to end: SIGTERM, SIGINT, or Ctrl-C elsewhere.
    pub fn on_signals(&self) {
        let token = self.token.clone();
        tokio::spawn(async move {
            let name = signal().await;
            tracing::info!(signal = name, "shutting down");
            token.cancel();
        });
    }

    /// Begins the end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// Runs a task that the end waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Runs a task that ends when the end begins, at any point: what it leaves undone is done by another, or after a restart.
    pub fn spawn_until_begun<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The end, in its order: `stop` hears no more and answers what was heard, then the tasks end, then `close` lets go
    /// of the connections. In `limit` and a second all together: whoever waits for the process kills it soon after.
    pub async fn end(
        &self,
        limit: Duration,
        stop: impl Future<Output = ()>,
        close: impl Future<Output = ()>,
    ) {
        let deadline = Instant::now() + limit;
        if timeout_at(deadline, stop).await.is_err() {
            tracing::warn!("what was being answered did not end in time");
        }
        self.finish(deadline.saturating_duration_since(Instant::now()))
            .await;
        if timeout(CLOSING_MAX, close).await.is_err() {
            tracing::warn!("connections are cut off: they did not close in time");
        }
    }

    /// Waits for the tasks, at most `limit`; says whether all ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.tasks.close();
        let ended = timeout(limit, self.tasks.wait()).await.is_ok();
        if !ended {
            tracing::warn!(
                limit_ms = limit.as_millis(),
                "what was under way did not end in time"
            );
        }
        ended
    }
}

#[cfg(unix)]
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signal() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "Ctrl-C",
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_makes_the_end_longer_than_its_limit_and_a_second() {
        let limit = Duration::from_secs(10);
        let took = |shutdown: Shutdown, stops: bool, closes: bool| async move {
            let begun = Instant::now();
            let never = |ends: bool| async move {
                if !ends {
                    pending::<()>().await;
                }
            };
            shutdown.end(limit, never(stops), never(closes)).await;
            begun.elapsed()
        };
        assert!(took(Shutdown::new(), true, true).await < Duration::from_secs(1));
        for (stops, closes) in [(false, true), (true, false), (false, false)] {
            let busy = Shutdown::new();
            busy.spawn(pending());
            let took = took(busy, stops, closes).await;
            assert!(took <= limit + CLOSING_MAX, "{stops} {closes}: {took:?}");
        }
        // What ends by itself is waited for, in its order.
        let shutdown = Shutdown::new();
        shutdown.spawn(tokio::time::sleep(Duration::from_secs(4)));
        let begun = Instant::now();
        let stop = tokio::time::sleep(Duration::from_secs(5));
        shutdown.end(limit, stop, ready(())).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert!(shutdown.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_with_the_beginning_of_the_end_holds_nothing_up() {
        let shutdown = Shutdown::new();
        shutdown.spawn_until_begun(pending());
        shutdown.begin();
        assert!(shutdown.finish(Duration::from_secs(1)).await);
    }
}

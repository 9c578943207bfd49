//! The end: one token that everybody watches, and that tests can pull.
//!
//! Whoever stops a process kills it after a grace period (`stop_grace_period`, `terminationGracePeriodSeconds`), so each step
//! of a stop has a limit. The sum, with S for `DASHFLEET_SHUTDOWN_MS`:
//!
//! | step | at most |
//! |---|---|
//! | what was heard is answered: four fifths of S; then what is last, then the tasks: the rest of S | S |
//! | connections close ([`CLOSING_MAX`]) | 2 s |
//! | the last resort ([`Shutdown::in_time`]) cuts off whatever has not ended a second later | 1 s |
//! | the last spans leave (`telemetry::end`) | 2 s |
//! | threads that still work for somebody end (`process`) | 1 s |
//!
//! That is S + 6 s. The gateway lingers before it begins, and has a second more than its requests: S + 7.25 s, and with
//! Kubernetes' pause before it, S + 12.25 s. A worker's handlers go on for `DASHFLEET_WORKER_DRAIN_MS` first.
//! `deploy/check` compares the grace periods with this.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// How long connections may take to close after everything else, whose time may be used up: what is not flushed by then
/// has nobody who takes it.
pub const CLOSING_MAX: Duration = Duration::from_secs(2);
/// The part of the time that is kept for what is last, however long answers take: refused attempts are written down.
const LAST_PART: u32 = 5;
/// How much later than everything may have ended the last resort comes.
const LAST_RESORT_AFTER: Duration = Duration::from_secs(1);

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

    /// The end, in its order: `stop` hears no more and answers what was heard, `last` is done when nobody hands in anything
    /// any more, then the tasks end, then `close` lets go of the connections. In `limit` and [`CLOSING_MAX`] all together.
    pub async fn end(
        &self,
        limit: Duration,
        stop: impl Future<Output = ()>,
        last: impl Future<Output = ()>,
        close: impl Future<Output = ()>,
    ) {
        let deadline = Instant::now() + limit;
        if timeout_at(deadline - limit / LAST_PART, stop)
            .await
            .is_err()
        {
            tracing::warn!("what was being answered did not end in time");
        }
        if timeout_at(deadline, last).await.is_err() {
            tracing::warn!("what is done last did not end in time");
        }
        self.finish(deadline.saturating_duration_since(Instant::now()))
            .await;
        self.close(close).await;
    }

    /// Lets go of connections, in [`CLOSING_MAX`].
    pub async fn close(&self, close: impl Future<Output = ()>) {
        if timeout(CLOSING_MAX, close).await.is_err() {
            tracing::warn!("connections are cut off: they did not close in time");
        }
    }

    /// Runs a process' work. The last resort: what has not ended `limit` after the end began, with the time for closing and
    /// a second, is dropped where it stands, as a kill would do it, but with its traces sent and a word in the log.
    ///
    /// # Errors
    /// Those of `run`.
    pub async fn in_time<E>(
        &self,
        limit: Duration,
        run: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let late = async {
            self.begun().await;
            sleep(limit + CLOSING_MAX + LAST_RESORT_AFTER).await;
        };
        tokio::select! {
            ended = run => ended,
            () = late => {
                tracing::error!("the end is cut off: it took too long");
                Ok(())
            }
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
    async fn nobody_makes_the_end_longer_than_its_limit_and_the_closing() {
        let limit = Duration::from_secs(10);
        let took = |shutdown: Shutdown, stops: bool, lasts: bool, closes: bool| async move {
            let begun = Instant::now();
            let never = |ends: bool| async move {
                if !ends {
                    pending::<()>().await;
                }
            };
            shutdown
                .end(limit, never(stops), never(lasts), never(closes))
                .await;
            begun.elapsed()
        };
        assert!(took(Shutdown::new(), true, true, true).await < Duration::from_secs(1));
        for case in 0..8 {
            let busy = Shutdown::new();
            busy.spawn(pending());
            let took = took(busy, case & 1 > 0, case & 2 > 0, case & 4 > 0).await;
            assert!(took <= limit + CLOSING_MAX, "{case}: {took:?}");
        }
        // What ends by itself is waited for, in its order.
        let shutdown = Shutdown::new();
        shutdown.spawn(tokio::time::sleep(Duration::from_secs(4)));
        let begun = Instant::now();
        let stop = tokio::time::sleep(Duration::from_secs(5));
        shutdown.end(limit, stop, ready(()), ready(())).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert!(shutdown.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_last_has_its_part_when_answers_take_all_of_theirs() {
        let limit = Duration::from_secs(10);
        let mut was_done = false;
        let last = async {
            tokio::time::sleep(Duration::from_millis(1_900)).await;
            was_done = true;
        };
        let shutdown = Shutdown::new();
        shutdown.end(limit, pending(), last, ready(())).await;
        assert!(was_done);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_resort_cuts_off_what_never_ends_but_nothing_that_ends_in_time() {
        let limit = Duration::from_secs(10);
        let shutdown = Shutdown::new();
        let work = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            shutdown.begin();
            let begun = Instant::now();
            shutdown.end(limit, pending(), pending(), pending()).await;
            Err::<(), _>(begun.elapsed())
        };
        let ended = shutdown.in_time(limit, work).await;
        let seconds = |took: Duration| took.as_secs();
        assert_eq!(ended.map_err(seconds), Err(seconds(limit + CLOSING_MAX)));
        let begun = Instant::now();
        let stuck = pending::<Result<(), ()>>();
        assert_eq!(shutdown.in_time(limit, stuck).await, Ok(()));
        let expected = limit + CLOSING_MAX + LAST_RESORT_AFTER;
        assert_eq!(seconds(begun.elapsed()), seconds(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_with_the_beginning_of_the_end_holds_nothing_up() {
        let shutdown = Shutdown::new();
        shutdown.spawn_until_begun(pending());
        shutdown.begin();
        assert!(shutdown.finish(Duration::from_secs(1)).await);
    }
}

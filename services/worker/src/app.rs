//! What the worker does: [`session`] its life with the scheduler, [`lease`] for how long it may run anything, [`life`] the loop,
//! [`claim`] what may begin here, [`pace`] how much is at hand, [`run`] attempts, [`finish`] how they ended, [`log`] and [`progress`]
//! what they say meanwhile, [`drain`] the end, [`witness`] for tests. (Offers come by [`bus::OfferFeed`].)

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, OfferFeed};
use contract::run::RunBegin;
use runtime::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Config;
use crate::handler::{Handlers, Host};
use crate::metrics::Metrics;

pub mod claim;
pub mod drain;
pub mod finish;
pub mod lease;
pub mod life;
pub mod log;
pub mod pace;
pub mod progress;
pub mod run;
pub mod session;
pub mod witness;

use finish::Finishes;
use lease::Session;
use life::{End, Life};
use log::Logs;
use pace::Pace;
use progress::Progress;
use witness::Witness;

/// How long the bus is waited for before anything else is looked at.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before a session is asked for again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long finishes of a lost session may take before the next one begins: after that they are in vain.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How long they may take once the scheduler answers again: longer than one of them that is under way is waited for.
const ANSWER_MAX: Duration = finish::TIMEOUT.saturating_add(Duration::from_secs(1));
/// How many words of executions may wait; later renewals say them again.
const TOLD_MAX: usize = 16;

/// The worker.
pub struct Worker {
    config: Config,
    handlers: Handlers,
    host: Arc<Host>,
    feed: OfferFeed,
    finishes: Finishes,
    logs: Arc<Logs>,
    pace: Pace,
    metrics: Metrics,
    /// What is missing to work; `None` when nothing is.
    standing: watch::Sender<Option<String>>,
    witness: Option<Arc<Witness>>,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(
        config: Config,
        handlers: Handlers,
        bus: Bus,
        egress: egress::Client,
        metrics: Metrics,
        standing: watch::Sender<Option<String>>,
        witness: Option<Witness>,
    ) -> Self {
        Self {
            feed: bus.offers(&config.pool),
            finishes: Finishes::new(&metrics),
            logs: Logs::new(&metrics),
            pace: Pace::new(Instant::now()),
            host: Arc::new(Host {
                bus,
                egress,
                progress: Progress::default(),
            }),
            witness: witness.map(Arc::new),
            config,
            handlers,
            metrics,
            standing,
        }
    }

    /// Works until the shutdown has begun and everything has ended: one session after another, when they are lost.
    pub async fn run(mut self, shutdown: &Shutdown) {
        let logs = tokio::spawn(self.logs.clone().send(self.host.bus.clone()));
        let mut before: Option<(Arc<Session>, bool)> = None;
        while !shutdown.has_begun() {
            let Some(session) = self.begin(before.take(), shutdown).await else {
                break;
            };
            self.standing.send_replace(None);
            let (tell, told) = mpsc::channel(TOLD_MAX);
            let keeper = tokio::spawn(session::keep(session.clone(), self.host.clone(), tell));
            let mut life = Life::new(&mut self, session.clone(), told);
            let ended = Box::pin(life.run(shutdown)).await;
            match ended {
                End::Drained(by) => {
                    let gone = life.are_handlers_gone();
                    drop(life);
                    keeper.abort();
                    self.end(&session, gone, by).await;
                }
                End::Lost => {
                    let gone = life.bury().await;
                    self.lost(&session);
                    before = Some((session, gone));
                }
            }
        }
        // While no session holds somebody may still take what was done in the last one.
        let bus = self.host.bus.clone();
        self.finishes.flush(&bus, FLUSH_MAX).await;
        logs.abort();
    }

    fn lost(&mut self, session: &Session) {
        let word = "there is no session with the scheduler";
        self.standing.send_replace(Some(word.into()));
        self.metrics.sessions.with_label_values(&["lost"]).inc();
        if session.is_lost() {
            self.finishes.forget_session(session);
        }
    }

    /// The session is over. One that holds on to its thread in spite of all ends with the process, a few seconds from now: what this worker
    /// has may begin elsewhere when its session expires, and no sooner. So nobody is told then.
    async fn end(&mut self, session: &Session, gone: bool, by: Instant) {
        session.end();
        if !gone {
            return;
        }
        let bus = self.host.bus.clone();
        if session::end(&bus, session, by.max(Instant::now() + FLUSH_MAX)).await {
            self.metrics.sessions.with_label_values(&["ended"]).inc();
            self.finishes.forget_session(session);
        } else {
            tracing::warn!(
                "the scheduler was not told: what is left begins elsewhere when the session expires"
            );
        }
    }

    /// A session; `None` when the shutdown begins first. It replaces the one before, when that one's handlers are gone.
    async fn begin(
        &mut self,
        before: Option<(Arc<Session>, bool)>,
        shutdown: &Shutdown,
    ) -> Option<Arc<Session>> {
        let bus = self.host.bus.clone();
        let replaces = before
            .as_ref()
            .filter(|(_, gone)| *gone)
            .map(|(session, _)| session.id);
        let mut request = RunBegin {
            session_id: Uuid::now_v7(),
            worker: self.config.name.clone(),
            concurrency: i32::try_from(self.config.concurrency).unwrap_or(i32::MAX),
            replaces: None,
        };
        let mut said = String::new();
        // Nobody answers what was done in the session before: whoever is asked to end it might do that first.
        let mut unheard = true;
        loop {
            tokio::select! {
                () = shutdown.begun() => return None,
                connected = bus.wait_connected(PATIENCE) => if !connected { continue },
            }
            // What was done in the session before counts only as long as that one is there.
            self.finishes.flush(&bus, FLUSH_MAX).await;
            unheard &= replaces.is_some() && !self.finishes.is_empty();
            request.replaces = replaces.filter(|_| !unheard);
            match session::begin(&bus, &request).await {
                Ok(_) if unheard => {
                    // The scheduler is there again. Asked once more it is the same session.
                    tokio::select! {
                        () = shutdown.begun() => return None,
                        () = self.finishes.flush(&bus, ANSWER_MAX) => {}
                    }
                    unheard = false;
                    continue;
                }
                Ok(session) => {
                    tracing::info!(session = %session.id, replaces = ?replaces, "a session begins");
                    self.metrics.sessions.with_label_values(&["begun"]).inc();
                    if let Some((before, _)) = &before {
                        before.lose();
                        self.finishes.forget_session(before);
                    }
                    return Some(session);
                }
                Err(problem) => {
                    let reason = problem.to_string();
                    if reason != said {
                        tracing::warn!(%problem, "no session with the scheduler yet");
                        said.clone_from(&reason);
                    }
                    self.standing.send_replace(Some(reason));
                }
            }
            tokio::select! {
                () = shutdown.begun() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

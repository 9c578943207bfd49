//! The loop: everything that happens is told to the engine, and what the engine wants is done. Only this task touches
//! the engine, so there is nothing to lock and nothing to race.
//!
//! Rooms: `journal` the journal's answers, `orders` what the bus brings, `connection` the state of the bus, `report`
//! what is said, `standing` how it stands, `end` how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusState, Subscription};
use contract::Problem;
use contract::agent::ReportAnswer;
use contract::identity::KeyStanding;
use contract::order::Signed;
use domain::SessionId;
use domain::action::ActionKind;
use futures::StreamExt;
use runtime::Shutdown;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::execution_log::ExecutionLog;
use crate::app::outbox::{Outbox, Outgoing};
use crate::app::sync::Sync;
use crate::app::uplink::InventoryKeeper;
use crate::clock::{Clock, Moment};
use crate::engine::{Effect, Engine, Work};
use crate::error::AgentError;
use crate::inbound::{Identity, Refused};
use crate::journal::record::Key;
use crate::journal::{Journal, JournalEvent};
use crate::kinds::{self, Ending, Means};
use crate::metrics::Metrics;
use crate::platform;
use crate::state::StateFolder;
use crate::state::keys::PinnedKeys;
use crate::state::revocation::Revocation;
use crate::state::standing::Standing;

mod connection;
mod end;
mod journal;
mod orders;
mod report;
mod standing;

use end::Farewell;

/// What tasks have to tell waits here; each task tells one thing and ends.
const EVENTS: usize = 64;
/// While so much waits for the disk no further order is looked at: the server rings again.
const BACKLOG_MAX: usize = 1_024;
/// The loop looks at the time at least so often.
const TICK_MAX: Duration = Duration::from_secs(5);
/// What is long over is forgotten so often.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How often memory that is free goes back to the system; it takes less than a millisecond.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(60);
/// The journal is written anew from this size on, and whenever it has doubled since.
const COMPACT_FROM_BYTES: u64 = 4 * 1024 * 1024;

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The state folder.
    pub folder: Arc<StateFolder>,
    /// The engine, after [`Engine::begin`].
    pub engine: Engine,
    /// The journal.
    pub journal: Journal,
    /// What the journal's writer says.
    pub journal_events: Receiver<JournalEvent>,
    /// The clock.
    pub clock: Arc<Clock>,
    /// The bus.
    pub bus: Bus,
    /// Who this is.
    pub me: Identity,
    /// The agent's program file as it was called at the start: an update renames another file to the same name, and
    /// the system then says of this process that its file is deleted.
    pub program: Option<PathBuf>,
    /// This life.
    pub session: SessionId,
    /// This boot.
    pub boot: String,
    /// Whose orders are obeyed.
    pub keys: PinnedKeys,
    /// What kinds need.
    pub means: Means,
    /// Who looks at what the machine is.
    pub inventory: Arc<InventoryKeeper>,
    /// The witness.
    pub log: ExecutionLog,
    /// The counters.
    pub metrics: Metrics,
    /// Refusals of what came from the bus.
    pub refused: Refused,
    /// Where to ask why the bus refuses this machine's key, and the key.
    pub door: Arc<(String, nkeys::KeyPair)>,
    /// The end.
    pub shutdown: Shutdown,
    /// How long what is under way may take at the end.
    pub patience: Duration,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The process was told to end.
    Stopped,
    /// An action restarts the agent.
    Restart,
}

/// What tasks tell the loop.
enum Event {
    Finished(Key, Ending),
    Answered(Outgoing, Result<ReportAnswer, Problem>),
    Page(Uuid, Result<Signed, Problem>),
    Standing(Result<KeyStanding, String>),
}

/// The loop.
pub struct Core {
    parts: Parts,
    outbox: Outbox,
    sync: Sync,
    events: (Sender<Event>, Receiver<Event>),
    state: watch::Receiver<BusState>,
    connection: u64,
    greeting: Option<JoinHandle<()>>,
    refused_said: Option<Duration>,
    standing_at: Option<Duration>,
    compact_at: u64,
    compacting: bool,
    tick_at: Duration,
    forget_at: Duration,
    give_back_at: Duration,
    clock_noted: Option<domain::Timestamp>,
    standing: Option<Standing>,
    ending: Option<Farewell>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("me", &self.parts.me)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let state = parts.bus.state();
        Self {
            parts,
            outbox: Outbox::default(),
            sync: Sync::new(),
            events: channel(EVENTS),
            state,
            connection: 0,
            greeting: None,
            refused_said: None,
            standing_at: None,
            compact_at: COMPACT_FROM_BYTES,
            compacting: false,
            tick_at: Duration::ZERO,
            forget_at: Duration::ZERO,
            give_back_at: Duration::ZERO,
            clock_noted: None,
            standing: None,
            ending: None,
        }
    }

    /// Runs until the process is told to end, or an action restarts the agent. The journal is closed then.
    ///
    /// # Errors
    /// [`AgentError::State`] when the journal cannot be written any more; [`AgentError::Revoked`] when the server says
    /// so.
    pub async fn run(mut self, mut orders: Subscription) -> Result<Exit, AgentError> {
        let ended = self.turn(&mut orders).await;
        if let Some(greeting) = self.greeting.take() {
            greeting.abort();
        }
        self.note_clock(true);
        let Parts {
            journal,
            bus,
            shutdown,
            ..
        } = self.parts;
        shutdown.close(bus.drain()).await;
        journal.close();
        ended
    }

    async fn turn(&mut self, orders: &mut Subscription) -> Result<Exit, AgentError> {
        self.follow_bus();
        loop {
            self.pump();
            if let Some(exit) = self.has_ended() {
                return Ok(exit);
            }
            let wake = self.sleep();
            tokio::select! {
                event = self.parts.journal_events.recv() => self.journal(event.unwrap_or_else(writer_is_gone))?,
                Some(event) = self.events.1.recv() => self.event(event)?,
                Some(message) = orders.next(), if self.parts.engine.backlog() < BACKLOG_MAX => self.order(&message),
                Ok(()) = self.state.changed() => self.follow_bus(),
                () = self.parts.shutdown.begun(), if self.ending.is_none() => self.end(Exit::Stopped, "signal"),
                () = tokio::time::sleep(wake) => self.tick(),
            }
        }
    }

    fn moment(&self) -> Moment {
        self.parts.clock.moment()
    }

    fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), BusState::Connected(_))
    }

    /// Hands on what the engine wants, and asks what is to be asked.
    fn pump(&mut self) {
        let moment = self.moment();
        for effect in self.parts.engine.take_effects() {
            self.effect(effect, moment);
        }
        for batch in self.parts.engine.take_batches() {
            self.parts.journal.append(batch);
        }
        if self.parts.engine.room_again() {
            self.sync.want(true);
        }
        if self.is_connected() {
            for outgoing in self.outbox.due(moment.boot) {
                self.send(outgoing);
            }
            if self.sync.begins(moment.boot) {
                self.parts.journal.ask_head();
            }
        }
    }

    /// How long nothing has to be done, when nothing happens.
    fn sleep(&self) -> Duration {
        let connected = self.is_connected();
        let due = [
            self.parts.engine.next_tick(),
            self.outbox.next_due().filter(|_| connected),
            self.sync.next_due().filter(|_| connected),
            self.ending.as_ref().map(Farewell::next_look),
            Some(self.tick_at),
        ];
        let now = self.moment().boot;
        due.into_iter()
            .flatten()
            .map(|due| due.saturating_sub(now))
            .min()
            .unwrap_or(TICK_MAX)
    }

    fn tick(&mut self) {
        let moment = self.moment();
        self.tick_at = moment.boot + TICK_MAX;
        self.parts.engine.tick(moment);
        if moment.boot >= self.forget_at {
            self.forget_at = moment.boot + FORGET_EVERY;
            self.parts.engine.forget(moment);
        }
        if moment.boot >= self.give_back_at {
            self.give_back_at = moment.boot + GIVE_BACK_EVERY;
            platform::memory_give_back();
        }
        self.note_clock(false);
        self.note_standing();
        self.parts.metrics.note(
            &self.parts.engine,
            self.outbox.results(),
            self.parts.refused.count(),
        );
    }

    fn effect(&mut self, effect: Effect, moment: Moment) {
        match effect {
            Effect::Execute(work) => self.execute(work, moment),
            Effect::Step {
                word,
                step,
                asked,
                traceparent,
            } => {
                self.outbox
                    .step(word, step, asked, traceparent, moment.boot);
            }
            Effect::Result {
                report,
                traceparent,
            } => {
                self.note_denied(&report);
                self.outbox.result(report, traceparent, moment.boot);
            }
            Effect::Sync => self.sync.want(false),
        }
    }

    fn execute(&mut self, work: Work, moment: Moment) {
        if let Err(error) = self.parts.log.note(&work, moment.now) {
            tracing::warn!(%error, "the execution log cannot be written");
        }
        let span = tracing::info_span!("action.execute", action = %work.key.action, attempt = work.key.attempt, kind = %work.kind);
        bus::trace::set_parent(&span, work.traceparent.as_deref());
        if work.kind == ActionKind::Restart {
            span.in_scope(|| self.restart(work.key));
            return;
        }
        let (events, means) = (self.events.0.clone(), self.parts.means.clone());
        let task = async move {
            tracing::info!(seq = work.seq, "executing");
            let ending = kinds::execute(&work, &means).await;
            tracing::info!(outcome = ?ending.outcome, "executed");
            tell(&events, Event::Finished(work.key, ending)).await;
        };
        tokio::spawn(task.instrument(span));
    }

    fn event(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Finished(
                key,
                Ending {
                    outcome,
                    result,
                    error,
                },
            ) => {
                let moment = self.moment();
                self.parts
                    .engine
                    .finished(key, outcome, result, error, moment);
            }
            Event::Answered(outgoing, answer) => self.answered(&outgoing, answer),
            Event::Page(nonce, answer) => self.page(nonce, answer),
            Event::Standing(Ok(KeyStanding::Revoked)) => {
                let noted = Revocation::note(&self.parts.folder, self.moment().now);
                return Err(noted.map_or_else(
                    |error| {
                        tracing::warn!(%error, "that the key is revoked is not remembered");
                        AgentError::Revoked("it is never accepted again".to_owned())
                    },
                    |revocation| revocation.error(),
                ));
            }
            Event::Standing(standing) => {
                tracing::info!(?standing, "what the server says of this machine's key");
            }
        }
        Ok(())
    }
}

async fn tell(events: &Sender<Event>, event: Event) {
    if events.send(event).await.is_err() {
        tracing::debug!("the loop has ended");
    }
}

/// The journal's thread ended without a word: nothing is written any more, and nothing would ever be answered.
fn writer_is_gone() -> JournalEvent {
    JournalEvent::Broken {
        reason: "its writer has ended".into(),
    }
}

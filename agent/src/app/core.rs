//! The loop: everything that happens is told to the engine, and what the engine wants is done. Only this task touches
//! the engine, so there is nothing to lock and nothing to race.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusState, Message, Subscription};
use contract::Problem;
use contract::agent::{ReportAnswer, Stopping};
use contract::identity::KeyStanding;
use contract::order::{Signed, SyncItem, SyncRequest};
use contract::subject::{Up, up};
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
use crate::app::outbox::{Outbox, Outgoing, Report};
use crate::app::sync::Sync;
use crate::app::uplink::Uplink;
use crate::clock::{Clock, Moment};
use crate::engine::{Effect, Engine, StepWord, Work};
use crate::error::AgentError;
use crate::inbound::order::Verified;
use crate::inbound::{Identity, Refused, order, page};
use crate::journal::record::Key;
use crate::journal::{Batch, Class, Head, Journal, JournalEvent, Record};
use crate::kinds::{self, Ending, Means};
use crate::metrics::Metrics;
use crate::state::StateFolder;
use crate::state::keys::PinnedKeys;

mod end;
mod report;

use end::Farewell;

/// How long an owner may take to answer a report or a question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What tasks have to tell waits here; each task tells one thing and ends.
const EVENTS: usize = 64;
/// While so much waits for the disk no further order is looked at: the server rings again.
const BACKLOG_MAX: usize = 1_024;
/// The loop looks at the time at least so often.
const TICK_MAX: Duration = Duration::from_secs(5);
/// What is long over is forgotten so often.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// The journal is written anew from this size on, and whenever it has doubled since.
const COMPACT_FROM_BYTES: u64 = 4 * 1024 * 1024;
/// The clock's floor is noted again when it has moved so far.
const CLOCK_EVERY: chrono::Duration = chrono::Duration::minutes(5);
/// Why a key is refused is asked again after this time.
const STANDING_AGAIN: Duration = Duration::from_secs(30);
/// A refused key is mentioned again after this time.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);

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
    /// This life.
    pub session: SessionId,
    /// This boot.
    pub boot: String,
    /// Whose orders are obeyed.
    pub keys: PinnedKeys,
    /// What kinds need.
    pub means: Means,
    /// The inventory, and the file that remembers which one the server has.
    pub inventory: (contract::agent::Inventory, PathBuf),
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
    clock_noted: Option<domain::Timestamp>,
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
            clock_noted: None,
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
        let Parts { journal, bus, .. } = self.parts;
        bus.drain().await;
        journal.close();
        ended
    }

    async fn turn(&mut self, orders: &mut Subscription) -> Result<Exit, AgentError> {
        self.follow_bus()?;
        loop {
            self.pump();
            if let Some(exit) = self.has_ended() {
                return Ok(exit);
            }
            let wake = self.sleep();
            tokio::select! {
                Some(event) = self.parts.journal_events.recv() => self.journal(event)?,
                Some(event) = self.events.1.recv() => self.event(event)?,
                Some(message) = orders.next(), if self.parts.engine.backlog() < BACKLOG_MAX => self.order(&message),
                Ok(()) = self.state.changed() => self.follow_bus()?,
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
        self.note_clock(false);
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
            } => self.outbox.result(report, traceparent, moment.boot),
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
                let words = "it is never accepted again".to_owned();
                return Err(AgentError::Revoked(words));
            }
            Event::Standing(standing) => {
                tracing::info!(?standing, "what the server says of this machine's key");
            }
        }
        Ok(())
    }

    fn journal(&mut self, event: JournalEvent) -> Result<(), AgentError> {
        let moment = self.moment();
        match event {
            JournalEvent::Durable { batch, used } => {
                self.parts.engine.durable(batch, moment);
                if used >= self.compact_at && !self.compacting {
                    self.compact(moment);
                }
            }
            JournalEvent::Rejected { batch } => self.parts.engine.rejected(batch, moment),
            JournalEvent::Head(head) => self.ask(head),
            JournalEvent::Compacted { used } => {
                self.compacting = false;
                self.compact_at = COMPACT_FROM_BYTES.max(used.saturating_mul(2));
            }
            JournalEvent::CompactionFailed { reason } => {
                tracing::warn!(
                    reason,
                    "the journal could not be written anew; it goes on as it is"
                );
                self.compacting = false;
                self.compact_at = self.compact_at.saturating_add(COMPACT_FROM_BYTES / 4);
            }
            JournalEvent::Broken { reason } => {
                let reason = format!(
                    "the journal cannot be written ({reason}): nothing can be executed safely"
                );
                return Err(AgentError::state(self.parts.folder.path(), reason));
            }
        }
        Ok(())
    }

    fn compact(&mut self, moment: Moment) {
        self.compacting = true;
        self.parts.engine.forget(moment);
        // What the engine still hands out was decided before this snapshot: it must be in the file before it.
        for batch in self.parts.engine.take_batches() {
            self.parts.journal.append(batch);
        }
        let mut records = self.parts.engine.snapshot(moment);
        records.extend(self.clock_record());
        self.parts.journal.compact(records);
    }

    fn clock_record(&self) -> Option<Record> {
        let (at, boot) = self.parts.clock.floor()?;
        let uptime_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
        Some(Record::Clock {
            at,
            boot: self.parts.boot.clone(),
            uptime_ms,
        })
    }

    /// Notes the floor of the clock when it has moved far enough; at the end in any case.
    fn note_clock(&mut self, at_the_end: bool) {
        let Some(record) = self.clock_record() else {
            return;
        };
        let Record::Clock { at, .. } = &record else {
            return;
        };
        let far = self
            .clock_noted
            .is_none_or(|noted| at.since(noted) >= CLOCK_EVERY);
        if far || at_the_end {
            self.clock_noted = Some(*at);
            self.parts.journal.append(Batch {
                id: 0,
                class: Class::Lazy,
                records: vec![record],
            });
        }
    }

    fn order(&mut self, message: &Message) {
        let verified = order::verify(
            &message.subject,
            &message.payload,
            &self.parts.keys.keys,
            &self.parts.me,
        );
        let (verified, issued) = match verified {
            Ok(verified) => verified,
            Err(refusal) => return self.parts.refused.note(&message.subject, &refusal),
        };
        self.parts.clock.not_before(issued);
        let moment = self.moment();
        match verified {
            Verified::New(task) => {
                let (action, seq) = (task.action, task.seq);
                let offered = self.parts.engine.offer(*task, issued, moment);
                tracing::debug!(%action, seq, ?offered, "offered");
            }
            Verified::Cancel(task) => {
                tracing::info!(action = %task.action, seq = task.seq, "asked to cancel");
                self.parts.engine.cancel(*task, issued, moment);
            }
            Verified::Time => self.sync.want(true),
            Verified::Keys(keys) => self.rotate(keys, issued),
        }
    }

    fn rotate(&mut self, keys: Vec<String>, issued: domain::Timestamp) {
        if keys == self.parts.keys.keys {
            return;
        }
        match self.parts.keys.rotated(keys, issued) {
            Ok(rotated) => match rotated.write(&self.parts.folder) {
                Ok(()) => {
                    tracing::info!(keys = ?rotated.keys, "the keys that sign orders are new");
                    self.parts.keys = rotated;
                }
                // The old ones stay pinned; the server says it again.
                Err(error) => tracing::error!(%error, "the new keys cannot be kept"),
            },
            Err(reason) => tracing::warn!(reason, "a rotation of keys is refused"),
        }
    }

    fn follow_bus(&mut self) -> Result<(), AgentError> {
        let state = self.state.borrow_and_update().clone();
        match state {
            BusState::Connected(n) if n != self.connection => {
                self.connection = n;
                self.refused_said = None;
                self.connected();
            }
            BusState::Refused(words) => {
                self.say_refused(&words);
                self.ask_standing();
            }
            BusState::Connected(_) | BusState::Connecting | BusState::Closed => {}
        }
        Ok(())
    }

    fn say_refused(&mut self, words: &str) {
        let now = self.moment().boot;
        if self
            .refused_said
            .is_none_or(|said| now >= said + REFUSED_AGAIN)
        {
            self.refused_said = Some(now);
            tracing::error!(
                words,
                "the server refuses this machine's key: it was revoked, or the server does not know it; nothing is \
                 executed and nothing is reported meanwhile. The agent keeps trying, in case that changes. To use the \
                 machine again after a revocation, enrol it anew with an empty state folder"
            );
        }
    }

    /// The bus says no more than that it refuses: the server knows why.
    fn ask_standing(&mut self) {
        let now = self.moment().boot;
        if self
            .standing_at
            .is_some_and(|asked| now < asked + STANDING_AGAIN)
        {
            return;
        }
        self.standing_at = Some(now);
        let (door, events) = (Arc::clone(&self.parts.door), self.events.0.clone());
        tokio::spawn(async move {
            let standing = crate::enroll::standing(&door.0, &door.1).await;
            tell(&events, Event::Standing(standing)).await;
        });
    }

    fn connected(&mut self) {
        self.outbox.reconnected(self.moment().boot);
        self.sync.reconnected();
        if let Some(greeting) = self.greeting.take() {
            greeting.abort();
        }
        let uplink = self.uplink();
        let (inventory, file) = self.parts.inventory.clone();
        self.greeting = Some(tokio::spawn(uplink.inventory(inventory, file)));
    }

    fn uplink(&self) -> Uplink {
        Uplink {
            bus: self.parts.bus.clone(),
            org: self.parts.me.org,
            machine: self.parts.me.machine,
        }
    }
}

async fn tell(events: &Sender<Event>, event: Event) {
    if events.send(event).await.is_err() {
        tracing::debug!("the loop has ended");
    }
}

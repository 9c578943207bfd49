//! The life of a session: offers come, are claimed, run, and end. One loop that waits for whatever happens next, and then does all
//! that has become possible.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use contract::run::{Assignment, Offer, Place};
use domain::ExecutionId;
use runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::app::Worker;
use crate::app::claim::{Claimed, Claims, Room};
use crate::app::drain::Drain;
use crate::app::finish::Answered;
use crate::app::lease::Session;
use crate::app::run::{Ended, Reason, Stop, Work, attempt, handed_back};
use crate::app::session::Told;

/// An execution that was given to this worker and found no slot for so long is handed back: handlers that end fast were followed
/// by ones that do not, and other workers may be idle.
const READY_MAX: Duration = Duration::from_millis(500);
/// Of what is prefetched no more than so many need be used up before more is asked for.
const ENOUGH_MAX: usize = 48;
/// After so long without room the question for offers is taken back.
const NO_ROOM: Duration = Duration::from_millis(50);
/// How long the last lines of a log may take to be committed, before the finish goes without them; when the worker ends, perhaps
/// less ([`Drain::cuts`]).
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// How long handlers of a session that is over may take to be gone: each is dropped at its next step.
const BURY_MAX: Duration = Duration::from_secs(10);

/// How long the last lines of logs may take then.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// How a session ended.
pub(super) enum End {
    /// The worker ends: everything has ended, or the time for that is over. Until when the rest may take.
    Drained(Instant),
    /// It was lost.
    Lost,
}

/// What happens.
enum Event {
    Over,
    Shutdown,
    Tick,
    Told(Told),
    Offers(Vec<Offer>),
    Claimed(Result<Claimed, JoinError>),
    Ended(Result<Ended, JoinError>),
    Settled(Result<Ended, JoinError>),
    Finished(Result<Answered, JoinError>),
}

/// Given, and without a slot yet.
struct Ready {
    assignment: Assignment,
    /// Its offer's.
    turn: u64,
    since: Instant,
}

/// One session's life.
pub(super) struct Life<'a> {
    worker: &'a mut Worker,
    session: Arc<Session>,
    /// What is this worker's: until its finish is answered.
    held: HashMap<ExecutionId, Arc<Stop>>,
    /// Given, and without a slot yet: by their offers' turn.
    ready: VecDeque<Ready>,
    attempts: JoinSet<Ended>,
    /// Ended, and their last lines are on the way.
    settling: JoinSet<Ended>,
    /// Nobody waits for last lines any more.
    cut: CancellationToken,
    claims: Claims,
    told: mpsc::Receiver<Told>,
    drain: Drain,
    /// Since when there has been no room.
    no_room: Option<Instant>,
}

impl<'a> Life<'a> {
    pub(super) fn new(
        worker: &'a mut Worker,
        session: Arc<Session>,
        told: mpsc::Receiver<Told>,
    ) -> Self {
        let drain = Drain::new(worker.config.drain, worker.config.closing());
        Self {
            worker,
            session,
            held: HashMap::new(),
            ready: VecDeque::new(),
            attempts: JoinSet::new(),
            settling: JoinSet::new(),
            cut: CancellationToken::new(),
            claims: Claims::default(),
            told,
            drain,
            no_room: None,
        }
    }

    /// Until it is over.
    pub(super) async fn run(&mut self, shutdown: &Shutdown) -> End {
        loop {
            let now = Instant::now();
            self.advance(now);
            if self.session.is_over() {
                return End::Lost;
            }
            if self.drain.has_begun() && (self.is_done() || self.drain.is_over(now)) {
                return End::Drained(self.drain.ends_at().unwrap_or(now));
            }
            match self.event(shutdown, now).await {
                // What is looked at above has changed.
                Event::Over => {}
                Event::Tick => self.tick().await,
                Event::Shutdown => self.stop().await,
                Event::Told(Told::Cancelled(ids)) => self.cancel(&ids),
                Event::Told(Told::Given(given)) => self.given(given),
                Event::Offers(offers) => {
                    let held = &self.held;
                    self.claims.offered(offers, |id| held.contains_key(id));
                }
                Event::Claimed(claimed) => self.claimed(claimed),
                Event::Ended(ended) => {
                    self.ended(ended);
                    // What ended meanwhile makes one request.
                    while let Some(ended) = self.attempts.try_join_next() {
                        self.ended(ended);
                    }
                }
                Event::Settled(ended) => self.settled(ended),
                Event::Finished(answered) => {
                    for (session, id) in self.worker.finishes.answered(answered) {
                        if session == self.session.id {
                            self.held.remove(&id);
                        }
                    }
                }
            }
        }
    }

    async fn event(&mut self, shutdown: &Shutdown, now: Instant) -> Event {
        let want = match self.is_closed() {
            true => 0,
            false => self.room(now) + self.worker.pace.ahead(now),
        };
        let want = want.saturating_sub(self.claims.waiting());
        let wake = self.wake_at(want, now);
        let draining = self.drain.has_begun();
        let worker = &mut *self.worker;
        tokio::select! {
            () = self.session.over() => Event::Over,
            () = shutdown.begun(), if !draining => Event::Shutdown,
            Some(told) = self.told.recv() => Event::Told(told),
            Some(ended) = self.attempts.join_next() => Event::Ended(ended),
            Some(ended) = self.settling.join_next() => Event::Settled(ended),
            Some(claimed) = self.claims.requests.join_next() => Event::Claimed(claimed),
            Some(answered) = worker.finishes.requests.join_next() => Event::Finished(answered),
            offers = worker.feed.next(want), if want > 0 => Event::Offers(offers),
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => Event::Tick,
        }
    }

    /// How many more could be claimed: what has a slot, and a little that will have one soon.
    fn room(&mut self, now: Instant) -> usize {
        let prefetch = self.worker.pace.prefetch(now);
        if self.is_closed() {
            return 0;
        }
        let free = self
            .worker
            .config
            .concurrency
            .saturating_sub(self.attempts.len());
        (free + prefetch).saturating_sub(self.ready.len() + self.claims.asked())
    }

    /// Whether nothing more may be claimed, whatever is free.
    fn is_closed(&self) -> bool {
        self.drain.has_begun() || self.worker.finishes.is_full(self.settling.len())
    }

    /// When time alone changes something.
    fn wake_at(&mut self, want: usize, now: Instant) -> Option<Instant> {
        if want > 0 {
            self.no_room = None;
        } else if self.worker.feed.is_asking() {
            self.no_room.get_or_insert_with(Instant::now);
        }
        let since = self.ready.iter().map(|ready| ready.since).min();
        let ready = since.map(|since| since + READY_MAX);
        let pause = self
            .no_room
            .filter(|_| self.worker.feed.is_asking())
            .map(|since| since + NO_ROOM);
        [
            ready,
            pause,
            self.worker.pace.look_at(now),
            self.claims.wake_at(),
            self.drain.wake_at(),
            self.worker.finishes.wake_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what has become possible.
    fn advance(&mut self, now: Instant) {
        if self.session.is_over() {
            return;
        }
        while self.attempts.len() < self.worker.config.concurrency && !self.drain.has_begun() {
            let Some(ready) = self.ready.pop_front() else {
                break;
            };
            self.start(ready.assignment);
        }
        let draining = self.drain.has_begun();
        let stale = |ready: &Ready| now.saturating_duration_since(ready.since) >= READY_MAX;
        while let Some(at) = self.ready.iter().position(|ready| draining || stale(ready)) {
            if let Some(ready) = self.ready.remove(at) {
                self.hand_back(ready.assignment.place);
            }
        }
        if self.drain.asks(now) {
            tracing::info!(running = self.attempts.len(), "handlers are asked to end");
            for stop in self.held.values() {
                stop.ask(Reason::Stopping);
            }
        }
        if self.attempts.is_empty() {
            self.drain.idle(now);
        }
        if self.drain.cuts(now) {
            self.cut.cancel();
        }
        while self.claim(now) {}
        self.worker.finishes.send(&self.worker.host.bus, now);
        let metrics = &self.worker.metrics;
        metrics.running.set(self.attempts.len() as i64);
        metrics.waiting.set(self.worker.finishes.len() as i64);
    }

    /// Asks for what there is room for: at once while a slot has nothing to come, else when a third of what is prefetched is used up, and
    /// two of a few, so that few claims ask for many. Says whether it asked.
    fn claim(&mut self, now: Instant) -> bool {
        let prefetch = self.worker.pace.prefetch(now);
        let slots = self.worker.config.concurrency;
        let given = self.ready.len() + self.claims.asked();
        let few = prefetch.saturating_sub(1).clamp(1, 2);
        let room = Room {
            free: self.room(now),
            soon: prefetch + 1,
            enough: match self.attempts.len() + given < slots {
                true => 1,
                false => prefetch.div_ceil(3).clamp(few, ENOUGH_MAX),
            },
            last: self.ready.back().map(|ready| ready.turn),
            // As much again as is prefetched: it begins soon. Where handlers last nothing does.
            beyond: match self.is_closed() {
                true => 0,
                false => (2 * prefetch + slots).saturating_sub(self.attempts.len() + given),
            },
        };
        self.claims
            .send(&self.worker.host.bus, &self.session, &room)
    }

    fn start(&mut self, assignment: Assignment) {
        let place = assignment.place;
        let stop = self.held.entry(place.id).or_default().clone();
        let span = match &assignment.traceparent {
            None => tracing::Span::none(),
            parent => {
                let span = tracing::info_span!("execution", otel.name = %assignment.handler, execution = %place.id, attempt = place.attempt);
                bus::trace::set_parent(&span, parent.as_deref());
                span
            }
        };
        let work = Work {
            handler: self.worker.handlers.get(&assignment.handler),
            log: self
                .worker
                .logs
                .attempt(place, &assignment.handler, &self.session),
            session: self.session.clone(),
            stop,
            host: self.worker.host.clone(),
            witness: self.worker.witness.clone(),
            assignment,
        };
        self.attempts.spawn(attempt(work).instrument(span));
    }

    fn hand_back(&mut self, place: Place) {
        self.worker.finishes.push(handed_back(place), &self.session);
    }

    fn claimed(&mut self, claimed: Result<Claimed, JoinError>) {
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => return self.broken("a claim", &error),
        };
        self.claims.answered(&claimed);
        let metrics = &self.worker.metrics;
        metrics.claim_time.observe(claimed.took.as_secs_f64());
        self.worker.pace.claimed(claimed.took);
        let (asked, granted) = (claimed.asked.len(), claimed.granted.len());
        let count = |result: &str, count: usize| {
            metrics
                .claims
                .with_label_values(&[result])
                .inc_by(count as u64);
        };
        count("granted", granted);
        count("refused", asked.saturating_sub(granted));
        let turns: HashMap<ExecutionId, u64> = claimed
            .asked
            .iter()
            .map(|offer| (offer.id, offer.turn))
            .collect();
        let since = Instant::now();
        for assignment in claimed.granted {
            // Given twice it would run twice: what is here already is the same attempt.
            let id = assignment.place.id;
            if self.held.contains_key(&id) {
                tracing::debug!(execution = %id, "given a second time");
                continue;
            }
            self.held.insert(id, Arc::default());
            let turn = turns.get(&id).copied().unwrap_or_default();
            let behind = self.ready.partition_point(|ready| ready.turn <= turn);
            let ready = Ready {
                assignment,
                turn,
                since,
            };
            self.ready.insert(behind, ready);
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return self.broken("an attempt", &error),
        };
        self.worker.pace.ended(Instant::now());
        self.worker.host.progress.forget(ended.place.id);
        let Some(finish) = &ended.finish else {
            return;
        };
        self.worker
            .metrics
            .ended
            .with_label_values(&[finish.outcome.as_str()])
            .inc();
        if ended.log.is_settled() {
            self.settled(Ok(ended));
            return;
        }
        let cut = self.cut.clone();
        self.settling.spawn(async move {
            let settled = ended.log.settle(SETTLE_MAX);
            cut.run_until_cancelled(settled).await;
            ended
        });
    }

    fn settled(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended {
                finish: Some(finish),
                ..
            }) => self.worker.finishes.push(*finish, &self.session),
            Ok(_) => {}
            Err(error) => self.broken("the end of an attempt", &error),
        }
    }

    /// Something of ours panicked, and what it had in hand is not known: the session's end gives it back.
    fn broken(&self, what: &str, error: &JoinError) {
        tracing::error!(%error, "{what} broke; the session is given up");
        self.session.end();
    }

    /// What is this worker's, and was never told to it, is claimed once more: then it is, and begins or is handed back.
    fn given(&mut self, mut given: Vec<Offer>) {
        given.retain(|offer| !self.held.contains_key(&offer.id));
        if given.is_empty() || self.drain.has_begun() {
            return;
        }
        let asked = self
            .claims
            .ask_for(&self.worker.host.bus, &self.session, given);
        if asked > 0 {
            tracing::warn!(
                executions = asked,
                "given, and never told: claimed once more"
            );
        }
    }

    fn cancel(&self, ids: &[ExecutionId]) {
        for stop in ids.iter().filter_map(|id| self.held.get(id)) {
            stop.ask(Reason::Cancelled);
        }
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        let idle = self
            .no_room
            .is_some_and(|since| now.saturating_duration_since(since) >= NO_ROOM);
        if idle {
            self.worker.feed.pause().await;
            self.no_room = None;
        }
    }

    async fn stop(&mut self) {
        let now = Instant::now();
        tracing::info!(running = self.attempts.len(), "nothing more is claimed");
        self.drain.begin(now);
        self.worker
            .standing
            .send_replace(Some("shutting down".into()));
        self.claims.stop(&self.worker.host.bus, &self.session);
        self.worker.feed.pause().await;
    }

    /// Whether everything that was begun here has ended, and is committed.
    fn is_done(&self) -> bool {
        self.attempts.is_empty()
            && self.ready.is_empty()
            && self.settling.is_empty()
            && self.claims.asked() == 0
            && self.worker.finishes.is_empty()
    }

    /// Whether no handler runs any more, of those that had all the time there is to be gone.
    pub(super) fn are_handlers_gone(&mut self) -> bool {
        while let Some(ended) = self.attempts.try_join_next() {
            self.ended(ended);
        }
        let gone = self.attempts.is_empty();
        if !gone {
            tracing::error!(
                handlers = self.attempts.len(),
                "handlers hold on to their threads; their executions wait until the session expires"
            );
        }
        gone
    }

    /// The session is over: waits until its handlers are gone, which they are at their next step. Whether they are. What was
    /// done before, and what did not begin, may still be told: perhaps the scheduler holds the session yet.
    pub(super) async fn bury(mut self) -> bool {
        self.session.end();
        self.worker.feed.pause().await;
        while let Some(ready) = self.ready.pop_front() {
            self.hand_back(ready.assignment.place);
        }
        let by = Instant::now() + BURY_MAX;
        while let Ok(Some(ended)) = timeout_at(by, self.attempts.join_next()).await {
            self.ended(ended);
        }
        let by = Instant::now() + LAST_LINES_MAX;
        while let Ok(Some(ended)) = timeout_at(by, self.settling.join_next()).await {
            self.settled(ended);
        }
        let gone = self.are_handlers_gone();
        for id in self.held.keys() {
            self.worker.host.progress.forget(*id);
        }
        gone
    }
}

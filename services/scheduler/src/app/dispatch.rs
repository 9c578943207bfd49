//! Who is offered what: a short window of offers in the stream `WORK`, kept full by one replica for each pool. [`known`] is where
//! something waits, [`out`] what nobody has answered, [`rests`] when those that have much wait.
//!
//! Nothing here decides anything: the claim does. So two dispatchers at once, a lost offer, or one that is made twice cost
//! time alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contract::run::{Offer, Offers};
use contract::work::{Bell, Lane, Made, Wanted};
use database::DatabaseError;
use domain::ExecutionId;
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::known::{Known, Standing};
use self::out::{Answered, Out, UnderWay};
use self::rests::Rests;
use crate::app::App;
use crate::app::fair::{Candidate, Chosen, Fair};
use crate::app::window::Window;
use crate::store::lanes::{self, First};
use crate::store::limits;
use crate::store::session;

mod known;
mod out;
mod rests;

/// For how long a replica is dispatcher without saying so again.
const HOLD: Duration = Duration::from_secs(3);
/// How often it says so, and how often the others ask.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// How often what waits is counted, for whoever looks at the metrics,
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// or after so long for each that was counted: two hundred times what it took. (A hundred thousand take 100 ms, in which everybody else
/// has a processor less.)
const COUNT_REST: f64 = 200e-6;
/// How many lanes one look around finds.
const LOOK_MAX: i64 = 2_000;
/// So many lanes at most are remembered between looks.
const PASSED_MAX: usize = 20_000;
/// How many of a lane one round looks at, beside those that are offered already: between these, and
const OF_A_LANE: [usize; 2] = [8, 256];
/// about so many of all lanes.
const OF_ALL_LANES: usize = 4_096;
/// The most offers of one message: workers share what is offered,
const CHUNK_MAX: usize = 32;
/// in about a part for each of them, between these.
const PARTS: [usize; 2] = [8, 64];
/// So many may be out beyond the window, of organisations whose turn it is when others have filled it.
const BEYOND_MAX: usize = 256;
/// A lane of which a claim was given nothing is looked at again after this time, if nobody rings: somebody may hold what comes first in it.
const REFUSED_REST: Duration = Duration::from_millis(20);
/// How many rings are heeded before anything else is done.
const RINGS_AT_ONCE: usize = 256;

/// Dispatches a pool for ever, while no other replica does.
pub async fn run(app: Arc<App>, pool: String) {
    let mut bells = app.bell.hear();
    loop {
        let held = lanes::dispatcher_hold(app.pools.system(), &pool, app.replica, HOLD).await;
        if matches!(held, Ok(true)) {
            tracing::debug!(pool, "this replica offers");
            let mut dispatcher = Dispatcher::new(&app, &pool);
            if let Err(error) = dispatcher.lead(&mut bells).await {
                tracing::debug!(%error, pool, "nothing is offered for now");
            }
            // Whoever leads now says it. (A count that is under way is told to this dispatcher, hence to nobody any more.)
            app.metrics.resign(&pool);
        }
        // Rings that nobody heeded are no use later.
        bells = bells.resubscribe();
        tokio::time::sleep(HOLD_EVERY).await;
    }
}

/// Counts what waits, for whoever looks at the metrics: how many, and how long the first of them, in seconds.
async fn count(app: Arc<App>, pool: String) -> Option<(i64, f64)> {
    let counted = lanes::lanes_age(app.pools.system(), &pool).await;
    if let Err(error) = &counted {
        tracing::debug!(%error, pool, "what waits is not counted this time");
    }
    counted.ok()
}

/// What the first of some lanes are.
struct Round {
    /// With how many of each were asked for.
    lanes: Vec<(Lane, i64)>,
    firsts: Result<Vec<First>, DatabaseError>,
    /// Whether those that have much rested, and are not in it.
    is_rest: bool,
}

struct Dispatcher<'a> {
    app: &'a Arc<App>,
    pool: &'a str,
    fair: Fair,
    window: Window,
    known: Known,
    out: Out,
    rests: Rests,
    /// The question what waits, while it is asked: rings are heeded meanwhile.
    asked: JoinSet<Round>,
    /// Something has changed since it was last asked.
    changed: bool,
    /// Where the last look around ended.
    looked: Option<Lane>,
    /// The lanes that the last one did not open, since an offer was out of each.
    passed: HashSet<Lane>,
    /// Whether those that have much rested when that was last asked.
    rested: bool,
    /// When what waits is counted again.
    count_at: Instant,
    /// The count, while it is under way: it is said while this dispatcher leads, and never after.
    counting: JoinSet<Option<(i64, f64)>>,
}

impl<'a> Dispatcher<'a> {
    fn new(app: &'a Arc<App>, pool: &'a str) -> Self {
        Self {
            app,
            pool,
            fair: Fair::new(),
            window: Window::default(),
            known: Known::default(),
            out: Out::default(),
            rests: Rests::default(),
            asked: JoinSet::new(),
            changed: true,
            looked: None,
            passed: HashSet::new(),
            rested: false,
            count_at: Instant::now(),
            counting: JoinSet::new(),
        }
    }

    /// Offers until another replica does.
    async fn lead(&mut self, bells: &mut broadcast::Receiver<Bell>) -> Result<(), DatabaseError> {
        let (mut hold_at, mut look_at) = (Instant::now() + HOLD_EVERY, Instant::now());
        let mut opens_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            // Whatever else happened at that moment.
            self.changed |= opens_at.is_some_and(|at| at <= now);
            let rests = self.rests.until(now).is_some();
            self.changed |= self.rested && !rests;
            self.rested = rests;
            if now >= hold_at {
                let system = self.app.pools.system();
                let replica = self.app.replica;
                if !lanes::dispatcher_hold(system, self.pool, replica, HOLD).await? {
                    return Ok(());
                }
                hold_at = now + HOLD_EVERY;
            }
            if now >= look_at {
                self.look().await?;
                look_at = now + self.app.timing.look_every;
            }
            self.ask();
            let wake = hold_at.min(look_at);
            opens_at = self.known.next_open();
            let rest = self.rests.until(now);
            let wake = [opens_at, rest]
                .into_iter()
                .flatten()
                .fold(wake, Instant::min);
            tokio::select! {
                bell = bells.recv() => {
                    let mut next = self.heed(bell, &mut look_at).await;
                    // All that has rung meanwhile is one round's business.
                    for _ in 0..RINGS_AT_ONCE {
                        if !next {
                            break;
                        }
                        next = match bells.try_recv() {
                            Ok(bell) => self.heed(Ok(bell), &mut look_at).await,
                            Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                                let lagged = broadcast::error::RecvError::Lagged(missed);
                                self.heed(Err(lagged), &mut look_at).await
                            }
                            Err(_) => false,
                        };
                    }
                }
                Some(round) = self.asked.join_next() => self.told(round).await?,
                Some(Ok(Some((waiting, age)))) = self.counting.join_next() => {
                    let (metrics, of) = (&self.app.metrics, [self.pool]);
                    metrics.waiting.with_label_values(&of).set(waiting as f64);
                    metrics.queue_age.with_label_values(&of).set(age);
                    let rest = Duration::from_secs_f64(waiting.max(0) as f64 * COUNT_REST);
                    self.count_at = self.count_at.max(Instant::now() + rest);
                }
                () = tokio::time::sleep_until(wake) => self.changed = true,
            }
        }
    }

    /// Notes a ring; `false` when there will be no more.
    async fn heed(
        &mut self,
        bell: Result<Bell, broadcast::error::RecvError>,
        look_at: &mut Instant,
    ) -> bool {
        match bell {
            Ok(bell) if bell.pool == self.pool => {
                self.changed = true;
                let now = Instant::now();
                let mut begins = HashSet::new();
                for id in bell.begun {
                    if let Some(answered) = self.answered(id, now) {
                        self.fair.served(answered.tag);
                        begins.insert(answered.lane);
                        if let Some(waited) = answered.waited {
                            self.rests.waited(waited, now);
                        }
                    }
                }
                for id in bell.refused {
                    if let Some(answered) = self.answered(id, now) {
                        self.fair.refund(answered.lane.org);
                        // Why, a look at its lane shows.
                        match begins.contains(&answered.lane) {
                            true => self.known.open_unless_held(answered.lane),
                            false => self.known.rest(answered.lane, now + REFUSED_REST),
                        }
                    }
                }
                if let Some(Wanted { session, offers }) = bell.wanted {
                    self.window.wanted(session, offers as usize, now);
                }
                for lane in bell.lanes {
                    self.known.ring(lane);
                }
                for made in bell.made {
                    self.made(made).await;
                }
                true
            }
            Ok(_) => true,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                // Which offers were answered is not known. One that is made twice is refused.
                self.forget(Duration::ZERO);
                self.rests.forget();
                *look_at = Instant::now();
                true
            }
            Err(broadcast::error::RecvError::Closed) => false,
        }
    }

    fn answered(&mut self, id: ExecutionId, now: Instant) -> Option<Answered> {
        let answered = self.out.answered(id, now)?;
        self.rests.answered(now);
        Some(answered)
    }

    /// Something was made. Where nothing of its organisation is known to wait, it is the next of it: it is offered without a look,
    /// when it is its organisation's turn. If a limit holds it back the claim says so, and then a look is due.
    async fn made(&mut self, made: Made) {
        let Made { lane, id } = made;
        if self.known.knows(lane.org) || self.out.knows(&id) {
            return self.known.open_unless_held(lane);
        }
        let now = Instant::now();
        // Rests are for its sake: it does not wait for one.
        let (window, out) = (self.window.size(now, false), self.out.len());
        let has_room = out < window && !self.known.any_open();
        let is_behind = self.fair.is_behind(lane.org);
        // Or it goes before something that is out.
        let is_due = || {
            is_behind
                || self
                    .out
                    .last()
                    .is_some_and(|last| self.fair.start(lane.org) < last)
        };
        if !has_room && (out >= window + BEYOND_MAX || !is_due()) {
            return self.known.open(lane);
        }
        let is_first = is_behind && !self.out.has(lane.org);
        if is_first {
            self.rests.newcomer(lane.org, now);
        }
        let tag = self.fair.charge(lane.org);
        self.offer(vec![Chosen {
            lane,
            id,
            tag,
            is_first,
        }])
        .await;
    }

    /// Looks around for lanes that nobody rang for, and for those that were held back.
    async fn look(&mut self) -> Result<(), DatabaseError> {
        let after = self.looked.take();
        let system = self.app.pools.system();
        let found = lanes::lanes_look(system, self.pool, after.as_ref(), LOOK_MAX).await?;
        self.window
            .sessions(session::slots(system, self.pool).await?);
        if found.len() as i64 == LOOK_MAX {
            self.looked = found.last().cloned();
        } else if after.is_none() {
            self.known.keep_held(&found.iter().cloned().collect());
        }
        let out = self.out.under_way().lanes;
        let passed = std::mem::take(&mut self.passed);
        for lane in found {
            // What is out waits, too, and there need be nothing else of it; if there is, the next look opens it.
            let is_out = out.contains_key(&lane) && !self.known.knows(lane.org);
            if is_out && !passed.contains(&lane) {
                self.passed.insert(lane);
            } else {
                self.known.open(lane);
            }
        }
        if self.looked.is_some() {
            // Of a look in several parts: the parts before this one.
            self.passed.extend(passed);
            if self.passed.len() > PASSED_MAX {
                self.passed.clear();
            }
        }
        if self.forget(self.app.timing.offer_again) {
            self.window.unanswered();
        }
        self.changed = true;
        if self.count_at <= Instant::now() && self.counting.is_empty() {
            self.count_at = Instant::now() + COUNT_EVERY;
            // Beside the dispatcher: counting a hundred thousand takes longer than anybody should wait for an offer.
            let counting = count(self.app.clone(), self.pool.to_owned());
            self.counting.spawn(counting);
        }
        Ok(())
    }

    /// Forgets offers that nobody answered for so long, as if they had not been made. Whether there were any.
    fn forget(&mut self, after: Duration) -> bool {
        let lanes = self.out.expire(after);
        let any = !lanes.is_empty();
        for lane in lanes {
            self.fair.refund(lane.org);
            self.known.open_unless_held(lane);
        }
        any
    }

    /// Whether those that have much have no part in a round that begins now.
    fn is_rest(&self, now: Instant) -> bool {
        let out = self.out.count(|org| self.rests.has_much(org));
        let is_too_small = || self.rests.is_too_small(out, self.window.size(now, true));
        self.rests.until(now).is_some() || (self.rests.are_due(now) && is_too_small())
    }

    /// How many offers a round may make.
    fn room(&self, is_rest: bool, now: Instant) -> usize {
        let room = self.window.size(now, false).saturating_sub(self.out.len());
        if !self.rests.are_due(now) {
            return room;
        }
        let most = self.window.size(now, true);
        let out = match is_rest {
            true => 0,
            false => self.out.count(|org| self.rests.has_much(org)),
        };
        room.min(most.saturating_sub(out))
    }

    /// Asks what waits, if something has changed and the window has room. Who rests is not asked for.
    fn ask(&mut self) {
        let now = Instant::now();
        if !self.changed || !self.asked.is_empty() {
            return;
        }
        let is_rest = self.is_rest(now);
        let window = self.window.size(now, self.rests.are_due(now));
        let metrics = &self.app.metrics;
        let gauge = metrics.window.with_label_values(&[self.pool]);
        gauge.set(window as f64);
        if self.room(is_rest, now) == 0 {
            return;
        }
        self.changed = false;
        let (fair, rests) = (&self.fair, &self.rests);
        let lanes = self
            .known
            .next(|org| fair.start(org), |org| is_rest && rests.has_much(org));
        if lanes.is_empty() {
            return;
        }
        // For the whole window: what is answered until it is told makes room.
        let [least, most] = OF_A_LANE;
        let each = (OF_ALL_LANES / lanes.len()).clamp(least, most).min(window);
        let under_way = self.out.under_way();
        let lanes: Vec<(Lane, i64)> = lanes
            .into_iter()
            .map(|lane| {
                let out = under_way.lanes.get(&lane).copied().unwrap_or_default();
                (lane, each as i64 + i64::from(out))
            })
            .collect();
        self.out.asked();
        if !is_rest {
            self.rests.asked(now);
        }
        let (app, pool) = (self.app.clone(), self.pool.to_owned());
        self.asked.spawn(async move {
            let firsts = lanes::lanes_first(app.pools.system(), &pool, &lanes).await;
            Round {
                lanes,
                firsts,
                is_rest,
            }
        });
    }

    /// What waits is told: the first of it is offered, and if there was anything, what follows is asked for.
    async fn told(&mut self, round: Result<Round, JoinError>) -> Result<(), DatabaseError> {
        let round = round.map_err(|error| DatabaseError::Bug(error.to_string()))?;
        let (lanes, is_rest) = (round.lanes, round.is_rest);
        let under_way = self.out.under_way();
        let mut found = vec![false; lanes.len()];
        let (mut candidates, mut missing) = (Vec::new(), Vec::new());
        for first in round.firsts? {
            let (Some((lane, asked)), Some(found)) =
                (lanes.get(first.place), found.get_mut(first.place))
            else {
                continue;
            };
            *found = !first.waiting.is_empty();
            if first.key_missing {
                missing.push(lane);
            }
            candidates.extend(self.candidate(lane, first, *asked, &under_way));
        }
        for ((lane, _), found) in lanes.iter().zip(found) {
            if !found {
                self.known.found_none(lane);
            }
        }
        if !missing.is_empty() {
            limits::limits_key(self.app.pools.system(), &missing).await?;
        }
        self.out.told();
        let now = Instant::now();
        let much = rests::much(&candidates);
        let chosen = self.fair.choose(candidates, self.room(is_rest, now));
        self.rests.offered(&chosen, much, is_rest, now);
        self.changed |= !chosen.is_empty();
        self.offer(chosen).await;
        Ok(())
    }

    /// What of a lane may be offered, if there is anything.
    fn candidate(
        &mut self,
        lane: &Lane,
        first: First,
        asked: i64,
        under_way: &UnderWay,
    ) -> Option<Candidate> {
        if first.waiting.is_empty() {
            return None;
        }
        let full = |free: Option<i32>| free.is_some_and(|free| free <= 0);
        if full(first.tenant_free) || full(first.job_free) || full(first.key_free) {
            let until = first.rest.map(|rest| Instant::now() + rest);
            self.known.found(lane, Standing::Held(until));
            return None;
        }
        self.known.found(lane, Standing::Open);
        let less = |free: Option<i32>, offered: Option<&i32>| {
            free.map(|free| free - offered.copied().unwrap_or_default())
        };
        let more = first.waiting.len() as i64 >= asked;
        let waiting: Vec<_> = first
            .waiting
            .into_iter()
            .filter(|(id, _)| !self.out.knows(id))
            .collect();
        let candidate = Candidate {
            lane: lane.clone(),
            weight: first.weight,
            tenant_free: less(first.tenant_free, under_way.tenants.get(&lane.org)),
            job_free: less(first.job_free, under_way.jobs.get(&lane.job)),
            key_free: less(first.key_free, under_way.lanes.get(lane)),
            waiting,
            more,
        };
        Some(candidate).filter(|candidate| !candidate.waiting.is_empty())
    }

    async fn offer(&mut self, chosen: Vec<Chosen>) {
        let subject = contract::work::subject(self.pool);
        let [least, most] = PARTS;
        let parts = self.window.workers().clamp(least, most);
        let chunk = (chosen.len() / parts).clamp(1, CHUNK_MAX);
        for part in chosen.chunks(chunk) {
            let offers = Offers {
                items: part
                    .iter()
                    .map(|chosen| Offer {
                        org: chosen.lane.org,
                        id: chosen.id,
                        turn: chosen.turn(),
                    })
                    .collect(),
            };
            let payload = match serde_json::to_vec(&offers) {
                Ok(payload) => payload,
                Err(error) => {
                    tracing::error!(%error, "offers could not be encoded");
                    return;
                }
            };
            if let Err(error) = self.app.bus.publish(subject.clone(), payload).await {
                tracing::debug!(%error, "an offer was not made; it is made again");
            }
        }
        self.app
            .metrics
            .offers
            .with_label_values(&[self.pool])
            .inc_by(chosen.len() as u64);
        for chosen in chosen {
            self.out.insert(chosen);
        }
    }
}

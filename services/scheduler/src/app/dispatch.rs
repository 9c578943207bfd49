//! Who is offered what: a short window of offers in the stream `WORK`, kept full by one replica for each pool.
//!
//! Nothing here decides anything: the claim does. So two dispatchers at once, a lost offer, or one that is made twice cost
//! time alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::run::{Offer, Offers};
use contract::work::{Bell, Lane};
use database::DatabaseError;
use domain::{ExecutionId, OrgId};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::app::App;
use crate::app::fair::{Candidate, Fair};
use crate::app::window::Window;
use crate::store::lanes::{self, First};
use crate::store::limits;
use crate::store::session;

/// For how long a replica is dispatcher without saying so again.
const HOLD: Duration = Duration::from_secs(3);
/// How often it says so, and how often the others ask.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// How often what waits is counted, for whoever looks at the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How many lanes one round looks at.
const LANES_AT_ONCE: usize = 128;
/// How many lanes are known at once; more are found when these are empty.
const LANES_MAX: usize = 20_000;
/// How many lanes one look around finds.
const LOOK_MAX: i64 = 2_000;
/// How many of a lane one round looks at, beside those that are offered already.
const OF_A_LANE: usize = 256;
/// The most offers of one message: workers share what is offered.
const CHUNK_MAX: usize = 32;

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
        }
        // Rings that nobody heeded are no use later.
        bells = bells.resubscribe();
        tokio::time::sleep(HOLD_EVERY).await;
    }
}

/// Counts what waits, for whoever looks at the metrics.
async fn count(app: Arc<App>, pool: String) {
    match lanes::lanes_age(app.pools.system(), &pool).await {
        Ok((waiting, age)) => {
            let (metrics, of) = (&app.metrics, [pool.as_str()]);
            metrics.waiting.with_label_values(&of).set(waiting as f64);
            metrics.queue_age.with_label_values(&of).set(age);
        }
        Err(error) => tracing::debug!(%error, pool, "what waits is not counted this time"),
    }
}

/// What of a lane is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Something waits, perhaps.
    Open,
    /// A limit is reached, or it is paused: until somebody rings in its organisation, or this time.
    Held(Option<Instant>),
}

struct Dispatcher<'a> {
    app: &'a Arc<App>,
    pool: &'a str,
    fair: Fair,
    window: Window,
    /// Whether more could have been offered than the window allowed, in the last round.
    is_full: bool,
    lanes: BTreeMap<Lane, Standing>,
    /// Offers that nobody has answered.
    offered: HashMap<ExecutionId, (Lane, Instant)>,
    /// Where the last look around ended.
    looked: Option<Lane>,
    /// When what waits was last counted.
    counted: Option<Instant>,
    /// Where the last round ended, so that each lane has its turn.
    turn: Option<Lane>,
}

impl<'a> Dispatcher<'a> {
    fn new(app: &'a Arc<App>, pool: &'a str) -> Self {
        Self {
            app,
            pool,
            fair: Fair::new(),
            window: Window::default(),
            is_full: false,
            lanes: BTreeMap::new(),
            offered: HashMap::new(),
            looked: None,
            counted: None,
            turn: None,
        }
    }

    /// Offers until another replica does.
    async fn lead(&mut self, bells: &mut broadcast::Receiver<Bell>) -> Result<(), DatabaseError> {
        let (mut hold_at, mut look_at) = (Instant::now() + HOLD_EVERY, Instant::now());
        loop {
            let now = Instant::now();
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
            self.fill().await?;
            let wake = self.wake_at(hold_at.min(look_at));
            tokio::select! {
                bell = bells.recv() => {
                    let mut next = self.heed(bell, &mut look_at);
                    // All that has rung meanwhile is one round's business.
                    while next {
                        next = match bells.try_recv() {
                            Ok(bell) => self.heed(Ok(bell), &mut look_at),
                            Err(broadcast::error::TryRecvError::Lagged(_)) => {
                                look_at = Instant::now();
                                true
                            }
                            Err(_) => false,
                        };
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// When there may be something to do, if nobody rings.
    fn wake_at(&self, at: Instant) -> Instant {
        let held = self.lanes.values().filter_map(|standing| match standing {
            Standing::Held(until) => *until,
            Standing::Open => None,
        });
        held.fold(at, Instant::min)
    }

    /// Notes a ring; `false` when there will be no more.
    fn heed(
        &mut self,
        bell: Result<Bell, broadcast::error::RecvError>,
        look_at: &mut Instant,
    ) -> bool {
        match bell {
            Ok(bell) if bell.pool == self.pool => {
                for lane in bell.lanes {
                    self.open(lane);
                }
                for id in &bell.answered {
                    self.offered.remove(id);
                }
                if !bell.answered.is_empty() {
                    self.window.claimed(bell.room, self.is_full);
                    // It grows once, and then it shows whether that was enough.
                    self.is_full &= !bell.room;
                }
                true
            }
            Ok(_) => true,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                *look_at = Instant::now();
                true
            }
            Err(broadcast::error::RecvError::Closed) => false,
        }
    }

    /// Something waits in a lane, or there is room: perhaps for others of its organisation too.
    fn open(&mut self, lane: Lane) {
        let org = lane.org;
        for (_, standing) in self.lanes.iter_mut().filter(|(other, _)| other.org == org) {
            *standing = Standing::Open;
        }
        if self.lanes.len() < LANES_MAX {
            self.lanes.insert(lane, Standing::Open);
        }
    }

    /// Looks around for lanes that nobody rang for, and for those that were held back.
    async fn look(&mut self) -> Result<(), DatabaseError> {
        let after = self.looked.take();
        let system = self.app.pools.system();
        let found = lanes::lanes_look(system, self.pool, after.as_ref(), LOOK_MAX).await?;
        let (workers, slots) = session::slots(system, self.pool).await?;
        self.window.slots(workers, slots);
        if found.len() as i64 == LOOK_MAX {
            self.looked = found.last().cloned();
        }
        for lane in found {
            if self.lanes.len() < LANES_MAX {
                self.lanes.insert(lane, Standing::Open);
            }
        }
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            self.counted = Some(Instant::now());
            // Beside the dispatcher: counting a hundred thousand takes longer than anybody should wait for an offer.
            tokio::spawn(count(self.app.clone(), self.pool.to_owned()));
        }
        Ok(())
    }

    /// Offers until the window is full, or nothing more may begin.
    async fn fill(&mut self) -> Result<(), DatabaseError> {
        let again = self.app.timing.offer_again;
        let before = self.offered.len();
        self.offered.retain(|_, (_, at)| at.elapsed() < again);
        if self.offered.len() < before {
            self.window.unanswered();
        }
        loop {
            let window = self.window.size();
            self.app
                .metrics
                .window
                .with_label_values(&[self.pool])
                .set(window as f64);
            let room = window.saturating_sub(self.offered.len());
            self.is_full = room == 0;
            if self.is_full || self.round(room).await? == 0 {
                return Ok(());
            }
        }
    }

    /// One round: what may begin of some lanes. Says how many it offered.
    async fn round(&mut self, room: usize) -> Result<usize, DatabaseError> {
        let lanes = self.next_lanes();
        if lanes.is_empty() {
            return Ok(0);
        }
        let most = (room.min(OF_A_LANE) + self.offered.len()) as i64;
        let firsts = lanes::lanes_first(self.app.pools.system(), self.pool, &lanes, most).await?;
        let under_way = self.under_way();
        let mut found = vec![false; lanes.len()];
        let (mut candidates, mut missing) = (Vec::new(), Vec::new());
        for first in firsts {
            let Some(lane) = lanes.get(first.place) else {
                continue;
            };
            if first.key_missing {
                missing.push(lane);
            }
            if let Some(candidate) = self.candidate(lane, first, &under_way) {
                if let Some(found) = found.get_mut(candidate.0) {
                    *found = true;
                }
                candidates.extend(candidate.1);
            }
        }
        for (lane, found) in lanes.iter().zip(found) {
            if !found {
                self.lanes.remove(lane);
            }
        }
        if !missing.is_empty() {
            limits::limits_key(self.app.pools.system(), &missing).await?;
        }
        let chosen = self.fair.choose(candidates, room);
        self.offer(&chosen).await;
        Ok(chosen.len())
    }

    /// Open lanes, the organisations that are due first, each with some of its lanes.
    fn next_lanes(&mut self) -> Vec<Lane> {
        let now = Instant::now();
        let mut by_org: BTreeMap<OrgId, Vec<Lane>> = BTreeMap::new();
        let after = self.turn.take();
        let open = |standing: &Standing| match standing {
            Standing::Open => true,
            Standing::Held(until) => until.is_some_and(|until| until <= now),
        };
        // From where the last round ended, and around.
        let (before, behind): (Vec<_>, Vec<_>) = self
            .lanes
            .iter()
            .filter(|(_, standing)| open(standing))
            .map(|(lane, _)| lane)
            .partition(|lane| after.as_ref().is_some_and(|after| *lane <= after));
        for lane in behind.into_iter().chain(before) {
            by_org.entry(lane.org).or_default().push(lane.clone());
        }
        let all: usize = by_org.values().map(Vec::len).sum();
        let mut orgs: Vec<(f64, Vec<Lane>)> = by_org
            .into_iter()
            .map(|(org, lanes)| (self.fair.start(org), lanes))
            .collect();
        orgs.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        let share = (LANES_AT_ONCE / orgs.len().max(1)).max(4);
        let chosen: Vec<Lane> = orgs
            .into_iter()
            .flat_map(|(_, lanes)| lanes.into_iter().take(share))
            .take(LANES_AT_ONCE)
            .collect();
        if chosen.len() < all {
            self.turn = chosen.iter().max().cloned();
        }
        chosen
    }

    /// How many are offered and not answered, of each organisation, job and lane.
    fn under_way(&self) -> UnderWay {
        let mut counts = UnderWay::default();
        for (lane, _) in self.offered.values() {
            *counts.tenants.entry(lane.org).or_default() += 1;
            *counts.jobs.entry(lane.job).or_default() += 1;
            *counts.lanes.entry(lane.clone()).or_default() += 1;
        }
        counts
    }

    /// What of a lane may be offered: its place, and a candidate if there is any. `None` when nothing waits in it.
    fn candidate(
        &mut self,
        lane: &Lane,
        first: First,
        under_way: &UnderWay,
    ) -> Option<(usize, Option<Candidate>)> {
        if first.waiting.is_empty() {
            return None;
        }
        let full = |free: Option<i32>| free.is_some_and(|free| free <= 0);
        if full(first.tenant_free) || full(first.job_free) || full(first.key_free) {
            let until = first.rest.map(|rest| Instant::now() + rest);
            self.lanes.insert(lane.clone(), Standing::Held(until));
            return Some((first.place, None));
        }
        self.lanes.insert(lane.clone(), Standing::Open);
        let less = |free: Option<i32>, offered: Option<&i32>| {
            free.map(|free| free - offered.copied().unwrap_or_default())
        };
        let waiting: Vec<_> = first
            .waiting
            .into_iter()
            .filter(|(id, _)| !self.offered.contains_key(id))
            .collect();
        let candidate = Candidate {
            lane: lane.clone(),
            weight: first.weight,
            tenant_free: less(first.tenant_free, under_way.tenants.get(&lane.org)),
            job_free: less(first.job_free, under_way.jobs.get(&lane.job)),
            key_free: less(first.key_free, under_way.lanes.get(lane)),
            waiting,
        };
        Some((
            first.place,
            Some(candidate).filter(|candidate| !candidate.waiting.is_empty()),
        ))
    }

    async fn offer(&mut self, chosen: &[(Lane, ExecutionId)]) {
        let subject = contract::work::subject(self.pool);
        let chunk = (chosen.len() / 8).clamp(1, CHUNK_MAX);
        for part in chosen.chunks(chunk) {
            let offers = Offers {
                items: part
                    .iter()
                    .map(|(lane, id)| Offer {
                        org: lane.org,
                        id: *id,
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
        let now = Instant::now();
        for (lane, id) in chosen {
            self.offered.insert(*id, (lane.clone(), now));
        }
        self.app
            .metrics
            .offers
            .with_label_values(&[self.pool])
            .inc_by(chosen.len() as u64);
    }
}

/// Offers that are not answered, counted.
#[derive(Default)]
struct UnderWay {
    tenants: HashMap<OrgId, i32>,
    jobs: HashMap<domain::JobId, i32>,
    lanes: HashMap<Lane, i32>,
}

//! Claims: may these begin here? The answer is the right; until it comes nothing of them runs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::ProblemKind;
use contract::run::{Assignment, ITEMS_MAX, Offer, RunClaim};
use domain::ExecutionId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::lease::Session;

/// How many claims are under way at once: what is offered while all are waits for one of them, and goes together.
const AT_ONCE: usize = 2;
/// Where there is more to ask for than one claim may, so many.
const FULL_AT_ONCE: usize = 4;
/// The most of one claim. More would hold up whoever comes next for longer than it saves.
const CLAIM_MAX: usize = 64;
/// An offer that found no room for so long is returned: another worker may have some.
pub(crate) const STALE: Duration = Duration::from_millis(250);
/// How often those are looked for.
const STALE_EVERY: Duration = Duration::from_millis(100);
/// The most offers that wait for room.
const WAITING_MAX: usize = 4_096;
/// How long the scheduler may take to answer before it is asked again.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The first pause before it is asked again; each later one is twice as long, up to the last.
const PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// So often it may refuse a claim as a whole. Whether something of it began is not known then, so the session is given up.
const REFUSALS_MAX: u32 = 5;

/// What a claim may ask for.
pub(crate) struct Room {
    /// So many could begin, or be prefetched.
    pub(crate) free: usize,
    /// So many offers should be here when it is answered.
    pub(crate) soon: usize,
    /// Fewer are not worth a claim.
    pub(crate) enough: usize,
    /// The turn of the last that was given and has no slot yet.
    pub(crate) last: Option<u64>,
    /// So many whose turn is before that may be asked for whatever is free.
    pub(crate) beyond: usize,
}

/// A claim that is over.
pub(crate) struct Claimed {
    pub(crate) asked: Vec<Offer>,
    /// What may begin; nothing when the session ended before the answer.
    pub(crate) granted: Vec<Assignment>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// The claims of one session.
#[derive(Default)]
pub(crate) struct Claims {
    /// Offers that wait for room, by turn, and among equals as they came.
    waiting: BTreeMap<(u64, u64), (Offer, Instant)>,
    /// How many offers have come.
    count: u64,
    /// When stale ones were last looked for.
    swept: Option<Instant>,
    /// The executions of the offers that wait here, and of those that are asked for.
    known: HashSet<ExecutionId>,
    /// How many are asked for.
    asked: usize,
    /// How many offers were last said to be wanted.
    wanted: u32,
    pub(crate) requests: JoinSet<Claimed>,
}

impl Claims {
    /// Offers have come. What is known already, or `is_held` here, is no news: claimed twice, it would be given twice.
    pub(crate) fn offered(&mut self, offers: Vec<Offer>, is_held: impl Fn(&ExecutionId) -> bool) {
        let now = Instant::now();
        for offer in offers {
            if self.waiting.len() < WAITING_MAX
                && !is_held(&offer.id)
                && self.known.insert(offer.id)
            {
                self.count += 1;
                self.waiting.insert((offer.turn, self.count), (offer, now));
            }
        }
    }

    /// How many offers wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many are asked for and not answered: each may be given.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// Asks for as many as there is room for, if they are enough. Who goes before what has no slot yet waits for nobody, and takes along
    /// what there is room for. Says whether it asked.
    pub(crate) fn send(&mut self, bus: &Bus, session: &Arc<Session>, room: &Room) -> bool {
        let stale = self.sweep(Instant::now());
        give_back(bus, session, stale, self.want(room));
        let count = self.worth(room, self.requests.len());
        if count == 0 {
            return false;
        }
        let (offers, want) = self.take(count, room);
        let request = RunClaim {
            session_id: session.id,
            offers,
            want,
            returned: Vec::new(),
        };
        self.requests
            .spawn(claim(bus.clone(), session.clone(), request));
        true
    }

    /// Asks for these, whatever there is room for: they are the session's already. How many; what is asked for meanwhile is not.
    pub(crate) fn ask_for(
        &mut self,
        bus: &Bus,
        session: &Arc<Session>,
        offers: Vec<Offer>,
    ) -> usize {
        let offers: Vec<Offer> = offers
            .into_iter()
            .filter(|offer| self.known.insert(offer.id))
            .take(ITEMS_MAX)
            .collect();
        if offers.is_empty() {
            return 0;
        }
        let count = offers.len();
        self.asked += count;
        let request = RunClaim {
            session_id: session.id,
            want: self.wanted,
            offers,
            returned: Vec::new(),
        };
        self.requests
            .spawn(claim(bus.clone(), session.clone(), request));
        count
    }

    /// Takes out the next `count`; and how many should be out when they are answered.
    fn take(&mut self, count: usize, room: &Room) -> (Vec<Offer>, u32) {
        let next = std::iter::from_fn(|| self.waiting.pop_first());
        let offers: Vec<Offer> = next.take(count).map(|(_, (offer, _))| offer).collect();
        // None of these then: each answer counts for what is beside it.
        let want = self.want(&Room {
            free: room.free.saturating_sub(offers.len()),
            ..*room
        });
        self.asked += offers.len();
        self.wanted = want;
        (offers, want)
    }

    /// How many offers should be out for this worker, with such room beside what is asked for.
    fn want(&self, room: &Room) -> u32 {
        u32::try_from(self.asked + room.free + room.soon).unwrap_or(u32::MAX)
    }

    /// How many to ask for now, while so many claims are `under_way`.
    fn worth(&self, room: &Room, under_way: usize) -> usize {
        let fits = room.free.min(CLAIM_MAX).min(self.waiting.len());
        let at_once = match fits {
            CLAIM_MAX => FULL_AT_ONCE,
            _ => AT_ONCE,
        };
        // Who had nothing offered has turn 0: before all that was given, and before nothing.
        let last = room.last.unwrap_or(1);
        let before = match under_way <= at_once {
            true => self
                .waiting
                .range(..(last, 0))
                .take(room.beyond.min(CLAIM_MAX))
                .count(),
            false => 0,
        };
        let is_usual = under_way < at_once && fits >= room.enough;
        if is_usual || before > 0 {
            fits.max(before)
        } else {
            0
        }
    }

    /// Takes out what has waited for too long.
    fn sweep(&mut self, now: Instant) -> Vec<ExecutionId> {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < STALE_EVERY;
        if self.swept.is_some_and(is_recent) {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut stale = Vec::new();
        self.waiting.retain(|_, (offer, at)| {
            let stays = now.saturating_duration_since(*at) < STALE;
            if !stays {
                stale.push(offer.id);
            }
            stays
        });
        self.forget(stale)
    }

    /// When that is to be done again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let swept = self.swept.filter(|_| !self.waiting.is_empty())?;
        Some(swept + STALE_EVERY)
    }

    fn forget(&mut self, ids: Vec<ExecutionId>) -> Vec<ExecutionId> {
        for id in &ids {
            self.known.remove(id);
        }
        ids
    }

    /// A claim is over.
    pub(crate) fn answered(&mut self, claimed: &Claimed) {
        self.asked = self.asked.saturating_sub(claimed.asked.len());
        for offer in &claimed.asked {
            self.known.remove(&offer.id);
        }
    }

    /// Nothing more is claimed; what was asked for is still answered. What waits here is returned.
    pub(crate) fn stop(&mut self, bus: &Bus, session: &Arc<Session>) {
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let ids = self.forget(waiting.map(|(offer, _)| offer.id).collect());
        give_back(bus, session, ids, 0);
    }
}

/// Others may have these at once; if nobody hears that, in two seconds.
fn give_back(bus: &Bus, session: &Session, ids: Vec<ExecutionId>, want: u32) {
    for part in ids.chunks(ITEMS_MAX) {
        let request = RunClaim {
            session_id: session.id,
            offers: Vec::new(),
            want,
            returned: part.to_vec(),
        };
        let bus = bus.clone();
        tokio::spawn(async move {
            if let Err(problem) = bus.service_call(&request, None, TIMEOUT).await {
                tracing::debug!(%problem, "offers are not returned; they are made again");
            }
        });
    }
}

/// Asks until it is answered, or the session is over: the scheduler answers the same again.
async fn claim(bus: Bus, session: Arc<Session>, request: RunClaim) -> Claimed {
    let began = Instant::now();
    let granted = granted(&bus, &session, &request).await;
    Claimed {
        asked: request.offers,
        granted: granted.unwrap_or_default(),
        took: began.elapsed(),
    }
}

async fn granted(bus: &Bus, session: &Session, request: &RunClaim) -> Option<Vec<Assignment>> {
    let [mut pause, longest] = PAUSE;
    let mut refusals = 0;
    loop {
        let answer = tokio::select! {
            answer = bus.service_call(request, None, TIMEOUT) => answer,
            () = session.over() => return None,
        };
        match answer {
            Ok(claimed) => return Some(claimed.granted),
            Err(problem) if problem.kind == ProblemKind::NotFound => {
                session.lose();
                return None;
            }
            Err(problem) if problem.is_lasting() => {
                tracing::error!(%problem, offers = request.offers.len(), "a claim is refused");
                refusals += 1;
                if refusals == REFUSALS_MAX {
                    session.end();
                    return None;
                }
            }
            Err(problem) => tracing::debug!(%problem, "a claim is repeated"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = longest.min(pause * 2),
            () = session.over() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::OrgId;

    use super::*;

    fn offer() -> Offer {
        Offer {
            org: OrgId::new(),
            id: ExecutionId::new(),
            turn: 0,
        }
    }

    #[test]
    fn what_is_known_or_held_is_not_claimed_again() {
        let (mut claims, one, held) = (Claims::default(), offer(), offer());
        claims.offered(vec![one, held, one], |id| *id == held.id);
        assert_eq!(claims.waiting(), 1);
        claims.offered(vec![one], |_| false);
        assert_eq!(claims.waiting(), 1);
        let all = std::mem::take(&mut claims.waiting).into_values();
        claims.forget(all.map(|(offer, _)| offer.id).collect());
        claims.offered(vec![one], |_| false);
        assert_eq!(claims.waiting(), 1);
    }

    #[test]
    fn whose_turn_it_is_goes_first_and_what_is_stale_is_forgotten() {
        let mut claims = Claims::default();
        let turns = [7, 7, 9, 3];
        let offers = turns.map(|turn| Offer { turn, ..offer() });
        claims.offered(offers.to_vec(), |_| false);
        let order: Vec<Offer> = claims.waiting.values().map(|(offer, _)| *offer).collect();
        assert_eq!(order, [offers[3], offers[0], offers[1], offers[2]]);
        let now = Instant::now();
        assert!(claims.sweep(now).is_empty());
        assert_eq!(claims.wake_at(), Some(now + STALE_EVERY));
        let stale = claims.sweep(now + STALE + STALE_EVERY);
        assert_eq!((stale.len(), claims.waiting()), (4, 0));
        assert_eq!(claims.wake_at(), None);
        claims.offered(offers.to_vec(), |_| false);
        assert_eq!(claims.waiting(), 4);
    }

    #[test]
    fn few_are_not_worth_a_claim_but_who_goes_before_what_was_given_is() {
        let mut claims = Claims::default();
        let offers = [5, 6, 20, 21].map(|turn| Offer { turn, ..offer() });
        claims.offered(offers.to_vec(), |_| false);
        let room = |free, enough, last, beyond| Room {
            free,
            soon: 0,
            enough,
            last,
            beyond,
        };
        let worth = |free, enough, last, beyond| claims.worth(&room(free, enough, last, beyond), 0);
        assert_eq!(worth(3, 1, None, 9), 3);
        assert_eq!((worth(3, 4, None, 9), worth(9, 4, None, 9)), (0, 4));
        // Two of them go before turn 20, and are asked for as far as that is not too much already.
        assert_eq!((worth(0, 1, Some(20), 9), worth(0, 1, Some(20), 1)), (2, 1));
        assert_eq!((worth(0, 1, Some(20), 0), worth(0, 1, Some(5), 9)), (0, 0));
        assert_eq!(worth(4, 3, Some(20), 9), 4);
        // Who had nothing offered goes while others are under way, and takes the others along: else a stream of such would leave
        // nothing to them.
        let first = Offer { turn: 0, ..offer() };
        claims.offered(vec![first], |_| false);
        assert_eq!(claims.worth(&room(0, 9, None, 9), AT_ONCE), 1);
        assert_eq!(claims.worth(&room(5, 9, None, 9), AT_ONCE), 5);
        assert_eq!(claims.worth(&room(5, 1, None, 9), AT_ONCE + 1), 0);
    }

    #[test]
    fn what_one_claim_asks_for_is_not_wanted_by_it_but_by_the_next() {
        let mut claims = Claims::default();
        claims.offered((0..5).map(|_| offer()).collect(), |_| false);
        let room = |free| Room {
            free,
            soon: 1,
            enough: 1,
            last: None,
            beyond: 0,
        };
        let (offers, want) = claims.take(2, &room(3));
        assert_eq!((offers.len(), want), (2, 1 + 1));
        let (offers, want) = claims.take(3, &room(1));
        assert_eq!((offers.len(), want), (3, 2 + 1));
        assert_eq!((claims.asked(), claims.waiting()), (5, 0));
    }

    #[test]
    fn where_there_is_much_to_ask_for_more_claims_ask() {
        let mut claims = Claims::default();
        let offers: Vec<Offer> = (0..200).map(|_| Offer { turn: 7, ..offer() }).collect();
        claims.offered(offers, |_| false);
        let room = |free| Room {
            free,
            soon: 0,
            enough: 1,
            last: None,
            beyond: 0,
        };
        assert_eq!(claims.worth(&room(500), FULL_AT_ONCE - 1), CLAIM_MAX);
        assert_eq!(claims.worth(&room(500), FULL_AT_ONCE), 0);
        assert_eq!(
            (claims.worth(&room(9), 1), claims.worth(&room(9), AT_ONCE)),
            (9, 0)
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut claims = Claims::default();
        claims.offered((0..WAITING_MAX + 100).map(|_| offer()).collect(), |_| false);
        assert_eq!(claims.waiting(), WAITING_MAX);
        assert_eq!(claims.known.len(), WAITING_MAX);
    }
}

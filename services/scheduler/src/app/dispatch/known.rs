//! Lanes in which something waits, for all that is known.

use std::collections::{BTreeMap, HashMap, HashSet};

use contract::work::Lane;
use domain::{JobId, OrgId};
use tokio::time::Instant;
use uuid::Uuid;

use self::shares::Shares;

mod shares;

/// How many lanes one round looks at.
const LANES_AT_ONCE: usize = 128;
/// Of each organisation at least so many, while there are not too many organisations.
const LANES_EACH: usize = 4;
/// How many lanes are known at once. Beyond that one of the organisation that has most makes way for a new one; where all have about as many,
/// one that is held back; where none is, the new one is left to a later look.
const LANES_MAX: usize = 20_000;

/// What of a lane is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Something waits, perhaps.
    Open,
    /// A limit is reached, or it is paused: until somebody rings in its organisation, or this time.
    Held(Option<Instant>),
}

impl Standing {
    fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Open => true,
            Self::Held(until) => until.is_some_and(|until| until <= now),
        }
    }
}

/// The lanes that are known.
#[derive(Default)]
pub(super) struct Known {
    /// How each stands, and since which round.
    lanes: BTreeMap<Lane, (Standing, u64)>,
    /// How many of them each organisation has.
    shares: Shares,
    /// Whether any of them may be held back.
    any_held: bool,
    /// How many rounds there were. What a round found is older than what was heard since it began.
    round: u64,
    /// Where the last round ended in an organisation of more lanes than one round looks at, so that each has its turn.
    turns: HashMap<OrgId, Lane>,
}

/// Before all lanes of an organisation.
fn first_of(org: OrgId) -> Lane {
    Lane {
        org,
        job: JobId(Uuid::nil()),
        key: String::new(),
    }
}

impl Known {
    /// Something waits in a lane, or there is room: perhaps for others of its organisation too.
    pub(super) fn ring(&mut self, lane: Lane) {
        let org = lane.org;
        for (other, stands) in self.lanes.range_mut(first_of(org)..) {
            if other.org != org {
                break;
            }
            *stands = (Standing::Open, self.round);
        }
        self.open(lane);
    }

    /// Something waits in a lane, perhaps.
    pub(super) fn open(&mut self, lane: Lane) {
        if self.lanes.len() >= LANES_MAX && !self.lanes.contains_key(&lane) {
            // What makes way is found again by a look.
            let Some(other) = self.least_needed(lane.org) else {
                return;
            };
            self.forget(&other);
        }
        let org = lane.org;
        let before = self.lanes.insert(lane, (Standing::Open, self.round));
        if before.is_none() {
            self.shares.more(org);
        }
    }

    fn forget(&mut self, lane: &Lane) {
        if self.lanes.remove(lane).is_some() {
            self.shares.fewer(lane.org);
        }
    }

    /// The lane that makes way for one of `org`. Whoever comes finds room, however many lanes somebody else has.
    fn least_needed(&mut self, org: OrgId) -> Option<Lane> {
        let (biggest, most) = self.shares.most()?;
        if most > self.shares.of(org) + 1 {
            let (lane, _) = self.lanes.range(first_of(biggest)..).next()?;
            return Some(lane.clone());
        }
        if !self.any_held {
            return None;
        }
        // Nobody's lane makes way for one that has more.
        let least = self.shares.of(org);
        self.any_held = false;
        for (lane, (standing, _)) in &self.lanes {
            if matches!(standing, Standing::Held(_)) {
                self.any_held = true;
                if self.shares.of(lane.org) >= least {
                    return Some(lane.clone());
                }
            }
        }
        None
    }

    /// All that waits was looked for: what is held back and was not found does not wait any more.
    pub(super) fn keep_held(&mut self, found: &HashSet<Lane>) {
        let shares = &mut self.shares;
        self.lanes.retain(|lane, (standing, _)| {
            let stays = matches!(standing, Standing::Open) || found.contains(lane);
            if !stays {
                shares.fewer(lane.org);
            }
            stays
        });
    }

    /// Something waits in a lane, perhaps: unless it is known why nothing of it may begin.
    pub(super) fn open_unless_held(&mut self, lane: Lane) {
        if !matches!(self.lanes.get(&lane), Some((Standing::Held(_), _))) {
            self.open(lane);
        }
    }

    /// Something waits in a lane, and none of it may begin before this time, unless it is known why, or somebody rings.
    pub(super) fn rest(&mut self, lane: Lane, until: Instant) {
        self.open_unless_held(lane.clone());
        if let Some(stands) = self.lanes.get_mut(&lane)
            && stands.0 == Standing::Open
        {
            stands.0 = Standing::Held(Some(until));
            self.any_held = true;
        }
    }

    /// This round found that a lane stands so.
    pub(super) fn found(&mut self, lane: &Lane, standing: Standing) {
        if let Some(stands) = self.lanes.get_mut(lane)
            && stands.1 < self.round
        {
            stands.0 = standing;
            self.any_held |= standing != Standing::Open;
        }
    }

    /// This round found nothing in a lane.
    pub(super) fn found_none(&mut self, lane: &Lane) {
        if self
            .lanes
            .get(lane)
            .is_some_and(|(_, since)| *since < self.round)
        {
            self.forget(lane);
        }
    }

    /// Whether something of an organisation waits, perhaps.
    pub(super) fn knows(&self, org: OrgId) -> bool {
        let next = self.lanes.range(first_of(org)..).next();
        next.is_some_and(|(lane, _)| lane.org == org)
    }

    /// Whether something may begin, perhaps.
    pub(super) fn any_open(&self) -> bool {
        let now = Instant::now();
        let mut lanes = self.lanes.values();
        lanes.any(|(standing, _)| standing.is_open(now))
    }

    /// When a lane that is held back may go on, if nobody rings.
    pub(super) fn next_open(&self) -> Option<Instant> {
        let now = Instant::now();
        let held = self
            .lanes
            .values()
            .filter_map(|(standing, _)| match standing {
                Standing::Held(until) => until.filter(|until| *until > now),
                Standing::Open => None,
            });
        held.min()
    }

    /// A round begins: open lanes, the organisations that are due first (those with the lowest `start`), each with some of its lanes.
    /// Who `rests` has none in it.
    pub(super) fn next(
        &mut self,
        start: impl Fn(OrgId) -> f64,
        rests: impl Fn(OrgId) -> bool,
    ) -> Vec<Lane> {
        self.round += 1;
        let now = Instant::now();
        let mut by_org: BTreeMap<OrgId, Vec<&Lane>> = BTreeMap::new();
        for (lane, (standing, _)) in &self.lanes {
            if standing.is_open(now) && !rests(lane.org) {
                by_org.entry(lane.org).or_default().push(lane);
            }
        }
        // An organisation that is held back for now goes on where it was.
        let lanes = &self.lanes;
        self.turns.retain(|org, _| {
            let next = lanes.range(first_of(*org)..).next();
            next.is_some_and(|(lane, _)| lane.org == *org)
        });
        let mut orgs: Vec<(f64, OrgId, Vec<&Lane>)> = by_org
            .into_iter()
            .map(|(org, lanes)| (start(org), org, lanes))
            .collect();
        orgs.sort_by(|(left, ..), (right, ..)| left.total_cmp(right));
        let share = (LANES_AT_ONCE / orgs.len().max(1)).max(LANES_EACH);
        let mut chosen = Vec::new();
        for (_, org, mut lanes) in orgs {
            let share = share.min(LANES_AT_ONCE - chosen.len());
            if share == 0 {
                break;
            }
            if lanes.len() > share {
                // From where the last round ended, and around.
                let after = self.turns.get(&org);
                let begin = after.map_or(0, |after| lanes.partition_point(|lane| *lane <= after));
                lanes.rotate_left(begin);
                lanes.truncate(share);
                if let Some(last) = lanes.last() {
                    self.turns.insert(org, Lane::clone(last));
                }
            }
            chosen.extend(lanes.into_iter().cloned());
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(org: OrgId) -> Lane {
        Lane {
            org,
            job: JobId::new(),
            key: String::new(),
        }
    }

    #[test]
    fn what_was_heard_during_a_round_outlives_what_the_round_found() {
        let mut known = Known::default();
        let (quiet, rung) = (lane(OrgId::new()), lane(OrgId::new()));
        known.open(quiet.clone());
        known.open(rung.clone());
        assert_eq!(known.next(|_| 0.0, |_| false).len(), 2);
        known.ring(rung.clone());
        for lane in [&quiet, &rung] {
            known.found(lane, Standing::Held(None));
            known.found_none(lane);
        }
        assert!(!known.knows(quiet.org) && known.knows(rung.org));
        assert!(known.any_open());
        assert!(known.next(|_| 0.0, |org| org == rung.org).is_empty());
        assert_eq!(known.next(|_| 0.0, |_| false), [rung]);
    }

    #[test]
    fn a_ring_opens_what_is_held_of_its_organisation_and_nothing_else() {
        let mut known = Known::default();
        let (org, other) = (OrgId::new(), lane(OrgId::new()));
        let lanes = [lane(org), lane(org), other.clone()];
        for lane in &lanes {
            known.open(lane.clone());
        }
        known.next(|_| 0.0, |_| false);
        for lane in &lanes {
            known.found(lane, Standing::Held(None));
        }
        assert!(!known.any_open());
        known.open_unless_held(lanes[0].clone());
        assert!(!known.any_open());
        known.ring(lanes[0].clone());
        let open = known.next(|_| 0.0, |_| false);
        assert!(open.len() == 2 && !open.contains(&other));
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        known.found(&lanes[0], Standing::Held(Some(soon)));
        assert_eq!(known.next_open(), Some(soon));
    }

    #[test]
    fn a_lane_that_rests_is_open_again_in_time_or_when_somebody_rings() {
        let (mut known, one) = (Known::default(), lane(OrgId::new()));
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        known.rest(one.clone(), soon);
        assert!(known.knows(one.org) && !known.any_open());
        assert_eq!(known.next_open(), Some(soon));
        known.ring(one.clone());
        assert!(known.any_open());
        known.rest(one.clone(), Instant::now());
        assert!(known.any_open());
    }

    #[test]
    fn each_lane_of_each_organisation_has_its_turn() {
        let (mut known, orgs) = (Known::default(), [OrgId::new(), OrgId::new()]);
        for org in orgs {
            for _ in 0..100 {
                known.open(lane(org));
            }
        }
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let lanes = known.next(|_| 0.0, |_| false);
            assert_eq!(lanes.len(), LANES_AT_ONCE);
            seen.extend(lanes);
        }
        assert_eq!(seen.len(), 200);
    }

    #[test]
    fn whoever_was_held_back_goes_on_where_it_was() {
        let (mut known, org) = (Known::default(), OrgId::new());
        for _ in 0..200 {
            known.open(lane(org));
        }
        let first: HashSet<Lane> = known.next(|_| 0.0, |_| false).into_iter().collect();
        for lane in known.lanes.keys().cloned().collect::<Vec<_>>() {
            known.round += 1;
            known.found(&lane, Standing::Held(None));
        }
        known.open(lane(OrgId::new()));
        assert_eq!(known.next(|_| 0.0, |_| false).len(), 1);
        known.ring(first.iter().next().unwrap().clone());
        let next = known.next(|_| 0.0, |_| false);
        let new = next.iter().filter(|lane| !first.contains(*lane)).count();
        assert!(new >= 64, "{new}");
    }

    #[test]
    fn whoever_comes_finds_room_beside_one_with_too_many_lanes() {
        let (mut known, [many, few]) = (Known::default(), [OrgId::new(), OrgId::new()]);
        for _ in 0..=LANES_MAX {
            known.open(lane(many));
        }
        assert_eq!(known.lanes.len(), LANES_MAX);
        let late = lane(few);
        known.ring(late.clone());
        assert!(known.knows(few) && known.lanes.len() == LANES_MAX);
        assert!(known.next(|_| 0.0, |_| false).contains(&late));
        // Up to half, and no further.
        for _ in 0..LANES_MAX {
            known.open(lane(few));
        }
        for org in [many, few] {
            assert_eq!(known.shares.of(org), LANES_MAX / 2);
        }
        known.next(|_| 0.0, |_| false);
        known.found_none(&late);
        assert_eq!(known.shares.of(few), LANES_MAX / 2 - 1);
        assert_eq!(known.shares.most(), Some((many, LANES_MAX / 2)));
    }

    #[test]
    fn whoever_has_most_pushes_out_nobody() {
        let (mut known, [many, few]) = (Known::default(), [OrgId::new(), OrgId::new()]);
        let held = lane(few);
        known.rest(held.clone(), Instant::now());
        for _ in 0..=LANES_MAX {
            known.open(lane(many));
        }
        assert!(known.knows(few) && known.lanes.len() == LANES_MAX);
    }

    #[test]
    fn what_is_held_and_not_found_is_forgotten_and_makes_way() {
        let mut known = Known::default();
        let lanes: Vec<Lane> = (0..LANES_MAX).map(|_| lane(OrgId::new())).collect();
        for lane in &lanes {
            known.open(lane.clone());
        }
        let late = lane(OrgId::new());
        known.open(late.clone());
        assert!(!known.knows(late.org));
        known.next(|_| 0.0, |_| false);
        known.found(&lanes[0], Standing::Held(None));
        known.found(&lanes[1], Standing::Held(None));
        known.open(late.clone());
        assert!(known.knows(late.org) && known.lanes.len() == LANES_MAX);
        known.keep_held(&HashSet::new());
        assert_eq!(known.lanes.len(), LANES_MAX - 1);
    }
}

//! Whose turn it is: between organisations by weight, within one by priority and age.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): what an organisation is given next has a start tag, the greater of the virtual
//! time and of where its last one ended; each takes 1/weight. Whoever has the lowest start tag is next. Virtual time is the tag of what
//! was begun last, not of what was offered last: so who comes now goes before what others have out and nobody has begun. Whoever waited
//! for nothing has saved nothing up, and whoever queued a hundred thousand is owed no more than another.

use std::collections::{BTreeMap, HashMap};

use domain::{ExecutionId, JobId, OrgId};

use contract::work::Lane;

/// Of how many organisations it is remembered where their last one ended; beyond that, those that virtual time has passed are
/// forgotten, which changes nothing.
const REMEMBERED_MAX: usize = 10_000;

/// A lane of which something may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The lane.
    pub lane: Lane,
    /// Its organisation's share, 1 or more.
    pub weight: i16,
    /// How many more of the organisation may begin; `None` for any number. The same in all lanes of it.
    pub tenant_free: Option<i32>,
    /// How many more of the job. The same in all lanes of it.
    pub job_free: Option<i32>,
    /// How many more with the key.
    pub key_free: Option<i32>,
    /// The executions with their priorities, the first first.
    pub waiting: Vec<(ExecutionId, i16)>,
    /// Whether more wait than these.
    pub more: bool,
}

/// How finely a tag is told: workers compare them as whole numbers.
const PARTS: f64 = 1e6;

/// What may begin, and its place among all that may: the lowest tag first.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The lane that it is from.
    pub lane: Lane,
    /// The execution.
    pub id: ExecutionId,
    /// Its start tag.
    pub tag: f64,
    /// Whether its organisation had nothing offered and no more than others: it goes before all others, also before what a worker was
    /// given already and has no slot for yet.
    pub is_first: bool,
}

impl Chosen {
    /// The tag, as workers are told.
    #[must_use]
    pub fn turn(&self) -> u64 {
        if self.is_first {
            0
        } else {
            (self.tag * PARTS) as u64
        }
    }
}

/// Virtual time. In memory alone: a new dispatcher begins with everybody equal.
#[derive(Debug, Default)]
pub struct Fair {
    now: f64,
    ends: HashMap<OrgId, f64>,
    /// What organisations weigh, but for those that weigh one.
    weights: HashMap<OrgId, f64>,
}

/// A lane in one choice.
struct Queue {
    lane: Lane,
    /// How many more with its key.
    free: Option<i32>,
    head: Option<(ExecutionId, i16)>,
    rest: std::vec::IntoIter<(ExecutionId, i16)>,
    more: bool,
}

impl Queue {
    /// Whether what comes next is not known.
    fn is_cut(&self) -> bool {
        self.head.is_none() && self.more
    }
}

/// An organisation in one choice.
struct Tenant {
    free: Option<i32>,
    jobs: HashMap<JobId, Option<i32>>,
    lanes: Vec<Queue>,
}

impl Tenant {
    /// The lane whose first may begin and is the most urgent.
    fn next(&self) -> Option<usize> {
        if self.free.is_some_and(|free| free <= 0) {
            return None;
        }
        let open = self.lanes.iter().enumerate().filter(|(_, queue)| {
            let job = self.jobs.get(&queue.lane.job).copied().flatten();
            queue.free.is_none_or(|free| free > 0) && job.is_none_or(|free| free > 0)
        });
        open.filter_map(|(index, queue)| queue.head.map(|(id, priority)| (index, id, priority)))
            .min_by_key(|(_, id, priority)| (-i32::from(*priority), *id))
            .map(|(index, ..)| index)
    }

    /// Takes the first of a lane; and whether what comes next in it is known.
    fn take(&mut self, index: usize) -> Option<(Lane, ExecutionId, bool)> {
        let queue = self.lanes.get_mut(index)?;
        let (id, _) = queue.head.take()?;
        queue.head = queue.rest.next();
        queue.free = queue.free.map(|free| free - 1);
        self.free = self.free.map(|free| free - 1);
        if let Some(Some(free)) = self.jobs.get_mut(&queue.lane.job) {
            *free -= 1;
        }
        Some((queue.lane.clone(), id, !queue.is_cut()))
    }
}

impl Fair {
    /// Everybody equal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where an organisation would begin now: the lower, the sooner.
    #[must_use]
    pub fn start(&self, org: OrgId) -> f64 {
        self.ends.get(&org).copied().unwrap_or(0.0).max(self.now)
    }

    /// Whether an organisation has had no more than whoever began last.
    #[must_use]
    pub fn is_behind(&self, org: OrgId) -> bool {
        self.start(org) <= self.now
    }

    /// What had this tag has begun.
    pub fn served(&mut self, tag: f64) {
        self.now = self.now.max(tag);
    }

    /// Gives an organisation its next tag.
    pub fn charge(&mut self, org: OrgId) -> f64 {
        let tag = self.start(org);
        self.ends.insert(org, tag + self.cost(org));
        tag
    }

    /// What was charged has not begun: it was refused, or nobody answered.
    pub fn refund(&mut self, org: OrgId) {
        let cost = self.cost(org);
        if let Some(end) = self.ends.get_mut(&org) {
            *end -= cost;
        }
    }

    fn cost(&self, org: OrgId) -> f64 {
        1.0 / self.weights.get(&org).copied().unwrap_or(1.0)
    }

    /// Forgets what makes no difference.
    fn forget(&mut self) {
        if self.ends.len() > REMEMBERED_MAX {
            let now = self.now;
            self.ends.retain(|_, end| *end > now);
        }
        if self.weights.len() > REMEMBERED_MAX {
            self.weights.clear();
        }
    }

    /// Chooses at most `room`, in the order in which they should begin, and counts them: as far as is known who is next.
    pub fn choose(&mut self, candidates: Vec<Candidate>, room: usize) -> Vec<Chosen> {
        self.forget();
        for candidate in &candidates {
            match candidate.weight {
                ..=1 => drop(self.weights.remove(&candidate.lane.org)),
                weight => drop(self.weights.insert(candidate.lane.org, weight.into())),
            }
        }
        let mut tenants: BTreeMap<OrgId, Tenant> = BTreeMap::new();
        for candidate in candidates {
            let tenant = tenants.entry(candidate.lane.org).or_insert_with(|| Tenant {
                free: candidate.tenant_free,
                jobs: HashMap::new(),
                lanes: Vec::new(),
            });
            tenant.jobs.insert(candidate.lane.job, candidate.job_free);
            let mut rest = candidate.waiting.into_iter();
            tenant.lanes.push(Queue {
                lane: candidate.lane,
                free: candidate.key_free,
                head: rest.next(),
                rest,
                more: candidate.more,
            });
        }
        let mut chosen = Vec::new();
        while chosen.len() < room {
            let next = tenants
                .iter()
                .filter_map(|(org, tenant)| Some((*org, tenant.next()?)))
                .min_by(|(left, _), (right, _)| self.start(*left).total_cmp(&self.start(*right)));
            let Some((org, index)) = next else { break };
            let Some(tenant) = tenants.get_mut(&org) else {
                break;
            };
            let Some((lane, id, goes_on)) = tenant.take(index) else {
                break;
            };
            let tag = self.charge(org);
            chosen.push(Chosen {
                lane,
                id,
                tag,
                is_first: false,
            });
            if !goes_on {
                // Who is next is not known: others would be given what is this one's.
                break;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(org: OrgId, weight: i16, waiting: usize) -> Candidate {
        Candidate {
            lane: Lane {
                org,
                job: JobId::new(),
                key: String::new(),
            },
            weight,
            tenant_free: None,
            job_free: None,
            key_free: None,
            waiting: (0..waiting).map(|_| (ExecutionId::new(), 0)).collect(),
            more: false,
        }
    }

    fn count(chosen: &[Chosen], org: OrgId) -> usize {
        chosen
            .iter()
            .filter(|chosen| chosen.lane.org == org)
            .count()
    }

    #[test]
    fn organisations_share_by_weight() {
        let (one, other) = (OrgId::new(), OrgId::new());
        let mut fair = Fair::new();
        let lanes = vec![candidate(one, 1, 1_000), candidate(other, 3, 1_000)];
        let chosen = fair.choose(lanes, 400);
        assert_eq!((count(&chosen, one), count(&chosen, other)), (100, 300));
    }

    #[test]
    fn whoever_comes_late_is_next_and_is_owed_nothing_for_before() {
        let (early, late) = (OrgId::new(), OrgId::new());
        let mut fair = Fair::new();
        for chosen in fair.choose(vec![candidate(early, 1, 10_000)], 5_000) {
            fair.served(chosen.tag);
        }
        let chosen = fair.choose(vec![candidate(early, 1, 100), candidate(late, 1, 100)], 20);
        assert!(chosen.iter().take(2).any(|chosen| chosen.lane.org == late));
        let counts = (count(&chosen, early), count(&chosen, late));
        assert!(counts == (10, 10) || counts == (9, 11), "{counts:?}");
    }

    #[test]
    fn whoever_comes_late_goes_before_what_is_out_and_shares_what_follows() {
        let (early, late) = (OrgId::new(), OrgId::new());
        let mut fair = Fair::new();
        let out = fair.choose(vec![candidate(early, 1, 100)], 100);
        for begun in &out[..10] {
            fair.served(begun.tag);
        }
        assert!(fair.is_behind(late) && !fair.is_behind(early));
        let mut all = fair.choose(vec![candidate(late, 1, 100)], 10);
        all.extend_from_slice(&out[10..]);
        all.sort_by_key(Chosen::turn);
        assert_eq!(all[0].lane.org, late);
        assert_eq!(count(&all[..19], late), 10);
        assert!(fair.is_behind(OrgId::new()) && !fair.is_behind(late));
    }

    #[test]
    fn what_did_not_begin_is_not_charged_and_weight_is_remembered() {
        let (heavy, light) = (OrgId::new(), OrgId::new());
        let mut fair = Fair::new();
        fair.choose(vec![candidate(heavy, 4, 1)], 1);
        assert_eq!([fair.charge(heavy), fair.charge(heavy)], [0.25, 0.5]);
        assert_eq!([fair.charge(light), fair.charge(light)], [0.0, 1.0]);
        for _ in 0..3 {
            fair.refund(heavy);
        }
        fair.refund(light);
        assert_eq!((fair.start(heavy), fair.start(light)), (0.0, 1.0));
    }

    #[test]
    fn where_a_list_was_cut_nobody_else_takes_what_follows() {
        let (heavy, light) = (OrgId::new(), OrgId::new());
        let mut cut = candidate(heavy, 100, 10);
        cut.more = true;
        let mut fair = Fair::new();
        let chosen = fair.choose(vec![cut, candidate(light, 1, 1_000)], 500);
        let counts = (count(&chosen, heavy), count(&chosen, light));
        assert!(counts.0 == 10 && counts.1 <= 1, "{counts:?}");
    }

    #[test]
    fn within_an_organisation_the_urgent_goes_first_then_the_oldest() {
        let org = OrgId::new();
        let (mut low, mut high) = (candidate(org, 1, 0), candidate(org, 1, 0));
        let (first, second, urgent) = (ExecutionId::new(), ExecutionId::new(), ExecutionId::new());
        low.waiting = vec![(first, 0), (second, 0)];
        high.waiting = vec![(urgent, 5)];
        let chosen = Fair::new().choose(vec![low, high], 10);
        let order: Vec<_> = chosen.into_iter().map(|chosen| chosen.id).collect();
        assert_eq!(order, [urgent, first, second]);
    }

    #[test]
    fn no_limit_is_exceeded_and_what_is_free_is_used() {
        let org = OrgId::new();
        let job = JobId::new();
        let mut lanes = Vec::new();
        for key in ["a", "b", "c"] {
            let mut lane = candidate(org, 1, 10);
            lane.lane.job = job;
            lane.lane.key = key.into();
            lane.key_free = Some(2);
            lane.job_free = Some(5);
            lanes.push(lane);
        }
        let mut free = candidate(org, 1, 10);
        free.tenant_free = None;
        lanes.push(free);
        let chosen = Fair::new().choose(lanes, 100);
        let of_job = chosen
            .iter()
            .filter(|chosen| chosen.lane.job == job)
            .count();
        assert_eq!((of_job, chosen.len()), (5, 15));
        for key in ["a", "b", "c"] {
            assert!(
                chosen
                    .iter()
                    .filter(|chosen| chosen.lane.key == key)
                    .count()
                    <= 2
            );
        }
    }
}

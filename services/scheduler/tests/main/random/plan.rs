//! What a round is: organisations with their jobs, what waits of those, workers, and what changes meanwhile.

use std::ops::Range;
use std::time::Duration;

use testkit::random::Random;

use crate::main::stage::{PLAIN, Sort};

/// By which keys executions wait.
pub const KEYS: [&str; 3] = ["", "a", "b"];

#[derive(Debug)]
pub struct Plan {
    pub orgs: Vec<OrgPlan>,
    /// Of each worker.
    pub slots: Vec<i32>,
    /// The first first.
    pub changes: Vec<Change>,
}

#[derive(Debug)]
pub struct OrgPlan {
    pub weight: u64,
    pub concurrency: Option<i32>,
    pub jobs: Vec<JobPlan>,
}

#[derive(Debug)]
pub struct JobPlan {
    pub sort: Sort,
    /// How long its handler runs.
    pub takes: Duration,
    /// How many wait, by key.
    pub waits: [usize; 3],
}

#[derive(Debug)]
pub struct Change {
    /// After the beginning.
    pub at: Duration,
    pub org: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A job of the organisation.
    Job(usize, OfJob),
    /// The organisation as a whole.
    Org(OfOrg),
}

#[derive(Clone, Copy, Debug)]
pub enum OfJob {
    Pause,
    Resume,
    /// So many of it at once, and so many of a key.
    Concurrency(Option<i32>, Option<i32>),
    /// So many begin in so many milliseconds.
    Rate(Option<(i32, i64)>),
}

#[derive(Clone, Copy, Debug)]
pub enum OfOrg {
    Pause,
    Resume,
    Concurrency(Option<i32>),
}

impl Plan {
    pub fn of(random: &mut Random) -> Self {
        let orgs: Vec<OrgPlan> = (0..within(random, 2..4)).map(|_| org(random)).collect();
        let slots = (0..3).map(|_| within(random, 2..6) as i32).collect();
        let mut changes = Vec::new();
        for (place, org) in orgs.iter().enumerate() {
            let mut add = |at: u64, what: What| {
                changes.push(Change {
                    at: Duration::from_millis(at),
                    org: place,
                    what,
                });
            };
            let jobs = org.jobs.len() as u64;
            let paused = random.below(jobs) as usize;
            let at = within(random, 100..400);
            add(at, What::Job(paused, OfJob::Pause));
            let resumed = at + within(random, 300..800);
            add(resumed, What::Job(paused, OfJob::Resume));
            for _ in 0..2 {
                let job = random.below(jobs) as usize;
                let limits = OfJob::Concurrency(limit(random, 4), limit(random, 3));
                add(within(random, 100..1_500), What::Job(job, limits));
            }
            let limits = OfOrg::Concurrency(limit(random, 6));
            add(within(random, 100..1_500), What::Org(limits));
            let at = within(random, 50..400);
            add(at, What::Org(OfOrg::Pause));
            let resumed = at + within(random, 150..500);
            add(resumed, What::Org(OfOrg::Resume));
            // Of the job of which most waits. A rate is set, then another, then it is taken away, and perhaps set again.
            let waits = |job: &usize| org.jobs[*job].waits.iter().sum::<usize>();
            let rated = (0..org.jobs.len()).max_by_key(waits).unwrap();
            let mut at = within(random, 20..120);
            for is_set in [true, true, false, random.below(2) == 0] {
                let rate = is_set.then(|| rate(random));
                add(at, What::Job(rated, OfJob::Rate(rate)));
                at += within(random, 100..400);
            }
        }
        changes.sort_by_key(|change| change.at);
        Self {
            orgs,
            slots,
            changes,
        }
    }

    /// How many wait in all.
    pub fn count(&self) -> usize {
        let jobs = self.orgs.iter().flat_map(|org| &org.jobs);
        jobs.flat_map(|job| job.waits).sum()
    }
}

fn org(random: &mut Random) -> OrgPlan {
    OrgPlan {
        weight: within(random, 1..6),
        concurrency: limit(random, 6),
        jobs: (0..within(random, 1..4)).map(|_| job(random)).collect(),
    }
}

fn job(random: &mut Random) -> JobPlan {
    let rate = (random.below(3) == 0).then(|| rate(random));
    JobPlan {
        sort: Sort {
            concurrency: limit(random, 4),
            key_concurrency: limit(random, 3),
            rate,
            ..PLAIN
        },
        takes: Duration::from_millis(within(random, 50..200)),
        waits: KEYS.map(|_| random.below(8) as usize),
    }
}

fn rate(random: &mut Random) -> (i32, i64) {
    let (max, per_ms) = (within(random, 2..6), within(random, 200..500));
    (max as i32, per_ms as i64)
}

/// None, once in three times.
fn limit(random: &mut Random, most: u64) -> Option<i32> {
    (random.below(3) > 0).then(|| within(random, 1..most + 1) as i32)
}

fn within(random: &mut Random, range: Range<u64>) -> u64 {
    range.start + random.below(range.end - range.start)
}

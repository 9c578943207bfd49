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
    /// A job of the organisation is paused.
    Pause(usize),
    /// It goes on.
    Resume(usize),
    /// A job of the organisation has these limits.
    Job(usize, Option<i32>, Option<i32>),
    /// The organisation has this limit.
    Org(Option<i32>),
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
            add(at, What::Pause(paused));
            add(at + within(random, 300..800), What::Resume(paused));
            for _ in 0..2 {
                let job = random.below(jobs) as usize;
                let limits = What::Job(job, limit(random, 4), limit(random, 3));
                add(within(random, 100..1_500), limits);
            }
            add(within(random, 100..1_500), What::Org(limit(random, 6)));
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
    let rate = (random.below(3) == 0).then(|| {
        let (max, per_ms) = (within(random, 2..6), within(random, 200..500));
        (max as i32, per_ms as i64)
    });
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

/// None, once in three times.
fn limit(random: &mut Random, most: u64) -> Option<i32> {
    (random.below(3) > 0).then(|| within(random, 1..most + 1) as i32)
}

fn within(random: &mut Random, range: Range<u64>) -> u64 {
    range.start + random.below(range.end - range.start)
}

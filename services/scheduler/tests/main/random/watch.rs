//! Looks at the tables every few milliseconds, over a connection of its own, each question in one snapshot: by the rows that run,
//! not by the counters.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::cast::Cast;
use super::rate;
use crate::main::stage::Stage;

pub const EVERY: Duration = Duration::from_millis(5);
/// How long something may wait that may begin: the dispatcher looks around each half second, and this machine may be slow.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// What one look counts for at most: while the machine stands still nothing begins.
const STEP_MAX: Duration = Duration::from_millis(50);
/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// Where more run than may: what, of whom, how many, how many may, and when the last of them began.
const EXCEEDED: &str = "
    SELECT 'organisation' AS what, r.org_id AS id, count(*) AS runs, t.concurrency AS most, max(r.started_at) AS newest
    FROM scheduler.running AS r JOIN scheduler.tenants AS t ON t.org_id = r.org_id
    GROUP BY r.org_id, t.concurrency HAVING count(*) > t.concurrency
    UNION ALL
    SELECT 'job', r.job_id, count(*), j.concurrency, max(r.started_at)
    FROM scheduler.running AS r JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
    GROUP BY r.job_id, j.concurrency HAVING count(*) > j.concurrency
    UNION ALL
    SELECT 'key ' || r.key, r.job_id, count(*), j.key_concurrency, max(r.started_at)
    FROM scheduler.running AS r JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
    WHERE r.key <> '' GROUP BY r.job_id, r.key, j.key_concurrency HAVING count(*) > j.key_concurrency
    UNION ALL
    SELECT 'pause', r.job_id, count(*), 0, max(r.started_at)
    FROM scheduler.running AS r JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
    WHERE j.paused_at IS NOT NULL GROUP BY r.job_id
    UNION ALL
    SELECT 'pause of all', r.org_id, count(*), 0, max(r.started_at)
    FROM scheduler.running AS r JOIN scheduler.tenants AS t ON t.org_id = r.org_id
    WHERE t.paused_at IS NOT NULL GROUP BY r.org_id";

/// How many wait; how many run; and the first of each lane of which every limit has room.
const STANDS: &str = "
    SELECT (SELECT count(*) FROM scheduler.waiting), (SELECT count(*) FROM scheduler.running), ARRAY(
        SELECT DISTINCT ON (w.job_id, w.key) w.id FROM scheduler.waiting AS w
        JOIN scheduler.jobs AS j ON j.org_id = w.org_id AND j.id = w.job_id
        JOIN scheduler.tenants AS t ON t.org_id = w.org_id
        LEFT JOIN scheduler.limits AS l ON l.org_id = w.org_id AND l.job_id = w.job_id AND l.key = ''
        WHERE w.due AND j.paused_at IS NULL AND t.paused_at IS NULL
            AND coalesce((SELECT count(*) FROM scheduler.running AS r WHERE r.org_id = w.org_id) < t.concurrency, true)
            AND coalesce((SELECT count(*) FROM scheduler.running AS r WHERE r.job_id = w.job_id) < j.concurrency, true)
            AND (w.key = '' OR coalesce((SELECT count(*) FROM scheduler.running AS r
                WHERE r.job_id = w.job_id AND r.key = w.key) < j.key_concurrency, true))
            AND NOT coalesce(l.window_count >= l.rate_max
                AND now() < l.window_at + l.rate_per_ms * interval '1 ms', false)
        ORDER BY w.job_id, w.key, w.priority DESC, w.id
    )";

pub struct Watch<'a> {
    cast: &'a Cast,
    connection: PoolConnection<Postgres>,
    /// Of all workers.
    slots: i64,
    began: Instant,
    last: Instant,
    looks: usize,
    /// The longest that anything waited, as [`WAIT_MAX`] means it.
    longest: Duration,
    /// How many waited when it was last looked.
    waiting: i64,
    /// For how long nothing has begun though something might.
    stuck: Duration,
    /// For how long each has been the first of its lane and might begin, with most slots free.
    passed_over: HashMap<Uuid, Duration>,
    /// Of the cast.
    jobs: Vec<Uuid>,
}

impl<'a> Watch<'a> {
    pub async fn begin(stage: &Stage, cast: &'a Cast, slots: i32) -> Self {
        let now = Instant::now();
        Self {
            cast,
            connection: stage.pools.system().acquire().await.unwrap(),
            slots: i64::from(slots),
            began: now,
            last: now,
            looks: 0,
            longest: Duration::ZERO,
            waiting: 0,
            stuck: Duration::ZERO,
            passed_over: HashMap::new(),
            jobs: cast.jobs(),
        }
    }

    /// Looks once; whether all has ended.
    ///
    /// # Panics
    /// When something began that may not, or does not begin though it may.
    pub async fn look(&mut self) -> bool {
        self.looks += 1;
        self.limits_hold().await;
        let seen = rate::seen(&mut self.connection, &self.jobs).await;
        self.cast.rates_hold(&seen);
        self.nothing_waits().await
    }

    async fn limits_hold(&mut self) {
        let rows: Vec<(String, Uuid, i64, i32, DateTime<Utc>)> = sqlx::query_as(EXCEEDED)
            .fetch_all(&mut *self.connection)
            .await
            .unwrap();
        for (what, id, runs, most, newest) in rows {
            // What began before a limit was lowered goes on. But whatever begins since has found room under it, and none was
            // lost afterwards.
            assert!(
                !self.cast.is_since(id, newest),
                "{what} of {id}: {runs} where {most} may, since {newest}"
            );
        }
    }

    async fn nothing_waits(&mut self) -> bool {
        let (waiting, running, firsts): (i64, i64, Vec<Uuid>) = sqlx::query_as(STANDS)
            .fetch_one(&mut *self.connection)
            .await
            .unwrap();
        let passed = self.last.elapsed().min(STEP_MAX);
        self.last = Instant::now();
        let free = self.slots - running;
        assert!(free >= 0, "{running} run in {} slots", self.slots);
        // One slot is free and something might begin, all the time, and yet nothing does.
        self.stuck = if free > 0 && !firsts.is_empty() && waiting == self.waiting {
            self.stuck + passed
        } else {
            Duration::ZERO
        };
        self.waiting = waiting;
        // Others may begin meanwhile, but this does not, though there is a slot for it. (Where slots are what is short, a few of them
        // are free at any time: claims are on their way for those, and others may go first.)
        let is_idle = free * 4 >= self.slots * 3;
        self.passed_over
            .retain(|id, _| is_idle && firsts.contains(id));
        if is_idle {
            for id in firsts {
                *self.passed_over.entry(id).or_default() += passed;
            }
        }
        let longest = self.passed_over.iter().max_by_key(|(_, waits)| **waits);
        let waits = longest.map_or(self.stuck, |(_, waits)| self.stuck.max(*waits));
        self.longest = self.longest.max(waits);
        assert!(
            waits < WAIT_MAX,
            "{free} of {} slots are free, and for {:?} nothing begins, or not this: {longest:?}",
            self.slots,
            self.stuck
        );
        assert!(
            self.began.elapsed() < ROUND_MAX,
            "{waiting} wait and {running} run, and it takes too long"
        );
        waiting + running == 0
    }

    /// What was seen, in a few figures.
    pub fn told(&self) -> String {
        let took = self.began.elapsed();
        format!(
            "{} looks in {took:?}; the longest wait beside a free slot took {:?}; {}",
            self.looks,
            self.longest,
            self.cast.told()
        )
    }
}

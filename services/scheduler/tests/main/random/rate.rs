//! What a rate allows, while it changes. Whoever changes a job holds its row, and whoever begins holds it too until the commit: so
//! what has begun by then began under the rate that was, and all else begins under the one that is set or a later one. Nothing
//! here is guessed by a clock, and nothing is believed of the counter that the rows do not say as well.
//!
//! A window begins with the first of its begins, and lasts as long as the rate says that holds when the next begins. A rate that is
//! changed while a window lasts has what the window has; one that is set where there was none begins with a new window.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// How jobs stand: the version of each, its window and what is counted in it, and what has begun.
const SEEN: &str = "
    SELECT j.id AS job, j.version, coalesce(l.window_at, 'epoch') AS window_at, coalesce(l.window_count, 0) AS counted,
        coalesce(b.ids, '{}') AS ids, coalesce(b.times, '{}') AS times
    FROM scheduler.jobs AS j
    LEFT JOIN scheduler.limits AS l ON l.org_id = j.org_id AND l.job_id = j.id AND l.key = ''
    LEFT JOIN (
        SELECT job_id, array_agg(id) AS ids, array_agg(started_at) AS times FROM (
            SELECT job_id, id, started_at FROM scheduler.running UNION ALL SELECT job_id, id, started_at FROM scheduler.ended
        ) AS each
        WHERE job_id = ANY($1) GROUP BY job_id
    ) AS b ON b.job_id = j.id
    WHERE j.id = ANY($1)";

/// How a job stands, in one snapshot.
#[derive(Debug, sqlx::FromRow)]
pub struct Seen {
    pub job: Uuid,
    version: i64,
    window_at: DateTime<Utc>,
    counted: i32,
    /// What has begun,
    ids: Vec<Uuid>,
    /// and when.
    times: Vec<DateTime<Utc>>,
}

pub async fn seen(connection: &mut PgConnection, jobs: &[Uuid]) -> Vec<Seen> {
    sqlx::query_as(SEEN)
        .bind(jobs)
        .fetch_all(connection)
        .await
        .unwrap()
}

/// A job's rate, and what is known of its window.
#[derive(Clone, Debug)]
pub struct Rate {
    /// So many begin in so many milliseconds.
    rate: Option<(i32, i64)>,
    /// Of the job's row, since the last change.
    version: i64,
    /// What had begun by then.
    earlier: HashSet<Uuid>,
    /// What had begun when it was last looked.
    begun: HashSet<Uuid>,
    window_at: DateTime<Utc>,
    /// What had begun before the window, and what it has forgotten.
    before: HashSet<Uuid>,
    /// How many windows there were.
    pub windows: usize,
}

impl Rate {
    /// Of a job that is new.
    pub fn new(rate: Option<(i32, i64)>) -> Self {
        Self {
            rate,
            version: 1,
            earlier: HashSet::new(),
            begun: HashSet::new(),
            window_at: DateTime::<Utc>::UNIX_EPOCH,
            before: HashSet::new(),
            windows: 0,
        }
    }

    /// Looks whether what has begun may have.
    pub fn look(&mut self, seen: &Seen) -> Result<(), String> {
        if seen.version != self.version {
            // Older than a change, which has looked by itself.
            return Ok(());
        }
        match self.rate {
            Some(rate) => self.holds(seen, rate)?,
            None => self.is_free(seen)?,
        }
        self.begun = seen.ids.iter().copied().collect();
        Ok(())
    }

    /// The job's row has changed since it was `seen`, and was held all the while.
    pub fn change(&mut self, seen: &Seen, rate: Option<(i32, i64)>) -> Result<(), String> {
        if seen.version != self.version {
            return Err(format!("{} is not version {}", seen.version, self.version));
        }
        self.look(seen)?;
        let is_same = self.rate.is_some() && rate.is_some();
        self.version += 1;
        self.rate = rate;
        self.earlier.clone_from(&self.begun);
        if !is_same {
            self.window_at = DateTime::<Utc>::UNIX_EPOCH;
            self.before.clone_from(&self.begun);
        }
        Ok(())
    }

    fn holds(&mut self, seen: &Seen, (max, per_ms): (i32, i64)) -> Result<(), String> {
        if seen.window_at != self.window_at {
            let lasted = seen.window_at - self.window_at;
            if lasted < Duration::milliseconds(per_ms) {
                return Err(format!("a window of {per_ms} ms lasted {lasted}"));
            }
            if !seen.times.contains(&seen.window_at) {
                return Err(format!("a window since {}: nothing began", seen.window_at));
            }
            self.window_at = seen.window_at;
            self.before.clone_from(&self.begun);
            self.windows += 1;
        }
        // All that the window can have. If windows passed unseen, what began in those began before this one: their rate is the
        // same. (A claim that had to wait is in the window of who went first, and began before that one.)
        let begun = seen.ids.iter().zip(&seen.times);
        let may: Vec<_> = begun.filter(|(id, _)| !self.before.contains(*id)).collect();
        let least = may.iter().filter(|(_, at)| **at >= self.window_at).count();
        let counted = usize::try_from(seen.counted).unwrap();
        if counted < least || counted > may.len() {
            let most = may.len();
            return Err(format!("{counted} are counted, not {least} to {most}"));
        }
        // What began under a rate that let more begin goes on. But whatever began under this one has found room.
        if seen.counted > max && may.iter().any(|(id, _)| !self.earlier.contains(*id)) {
            return Err(format!("{counted} began, and {max} may in {per_ms} ms"));
        }
        Ok(())
    }

    fn is_free(&mut self, seen: &Seen) -> Result<(), String> {
        if seen.window_at != self.window_at {
            let text = "and there is no rate";
            return Err(format!("a window since {}, {text}", seen.window_at));
        }
        Ok(())
    }
}

/// Where no window has begun.
const NEVER: i64 = -1_000_000;

/// A job, as it would be seen: times are milliseconds.
fn stands(version: i64, window: i64, counted: i32, begun: &[i64]) -> Seen {
    let at = |time: &i64| DateTime::<Utc>::UNIX_EPOCH + Duration::milliseconds(time - NEVER);
    Seen {
        job: Uuid::nil(),
        version,
        window_at: at(&window),
        counted,
        ids: (1..=begun.len() as u128).map(Uuid::from_u128).collect(),
        times: begun.iter().map(at).collect(),
    }
}

#[test]
fn what_breaks_a_rate_is_noticed() {
    let mut rate = Rate::new(Some((2, 100)));
    rate.look(&stands(1, 10, 2, &[10, 9])).unwrap();
    let third = |window, counted, at| {
        let seen = stands(1, window, counted, &[10, 9, at]);
        rate.clone().look(&seen).err().unwrap_or_default()
    };
    assert_eq!(third(110, 1, 110), "");
    assert!(third(10, 3, 20).contains("2 may"));
    assert!(third(10, 1, 20).contains("1 are counted, not 2 to 3"));
    assert!(third(110, 2, 110).contains("2 are counted, not 1 to 1"));
    assert!(third(109, 1, 109).contains("lasted"));
    assert!(third(110, 1, 111).contains("nothing began"));
}

#[test]
fn a_rate_that_is_changed_has_what_its_window_has() {
    let mut rate = Rate::new(Some((3, 100)));
    let three = [0, 1, 2];
    rate.change(&stands(1, 0, 3, &three), Some((2, 50)))
        .unwrap();
    rate.look(&stands(2, 0, 3, &three)).unwrap();
    let fourth = |window, counted, at| {
        let seen = stands(2, window, counted, &[0, 1, 2, at]);
        rate.clone().look(&seen).err().unwrap_or_default()
    };
    assert_eq!(fourth(50, 1, 50), "");
    assert!(fourth(0, 4, 20).contains("2 may"));
    assert!(fourth(0, 1, 20).contains("1 are counted, not 4 to 4"));
    assert!(fourth(49, 1, 49).contains("lasted"));
    // What the old rate let begin last is looked at by the change.
    let mut rate = Rate::new(Some((2, 100)));
    let more = rate.change(&stands(1, 0, 3, &three), Some((3, 100)));
    assert!(more.unwrap_err().contains("2 may"));
}

#[test]
fn a_rate_that_was_taken_away_and_is_set_again_begins_with_a_new_window() {
    let (mut rate, often) = (Rate::new(Some((2, 100))), Some((2, 100)));
    let two = [0, 1];
    rate.change(&stands(1, 0, 2, &two), None).unwrap();
    let moved = rate.clone().look(&stands(2, 0, 0, &[0, 1, 200]));
    assert!(moved.unwrap_err().contains("no rate"));
    rate.change(&stands(2, NEVER, 0, &[0, 1, 2]), often)
        .unwrap();
    rate.look(&stands(3, 3, 2, &[0, 1, 2, 3, 4])).unwrap();
    let third = rate.look(&stands(3, 3, 3, &[0, 1, 2, 3, 4, 5]));
    assert!(third.unwrap_err().contains("2 may"));
}

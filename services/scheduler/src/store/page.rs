//! Which executions a list shows. Found by one statement, hence at one moment: a row that moves from table to table meanwhile is
//! in it once.

use chrono::Duration;
use database::{DatabaseError, Tx};
use domain::execution::{first_id, made_at};
use domain::{JobId, OrgId, Timestamp};
use uuid::Uuid;

/// How far back from its beginning a page is looked for first. Most are full by then, and of what ended only a few partitions
/// are begun: each costs time, whether it is read or not, and after a month there are 33. One that is not full is looked for again.
const RECENT: Duration = Duration::days(2);

/// What waits and what runs: `$2` and `$3` bound the ids, `$5` and `$6` say whether those that wait and run are meant.
macro_rules! open {
    () => {
        "SELECT id FROM (
        (SELECT id FROM scheduler.waiting
            WHERE org_id = $1 AND $5::boolean AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT id FROM scheduler.running
            WHERE org_id = $1 AND $6::boolean AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $4)"
    };
}

/// The same of the job `$7`.
macro_rules! open_of_job {
    () => {
        "SELECT id FROM (
        (SELECT id FROM scheduler.waiting
            WHERE org_id = $1 AND job_id = $7 AND $5::boolean AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $4)
        UNION ALL
        (SELECT id FROM scheduler.running
            WHERE org_id = $1 AND job_id = $7 AND $6::boolean AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $4)"
    };
}

/// Where nothing that has ended is wanted: a statement that only names its partitions pays for them.
const OPEN: &str = concat!(open!(), ") AS found ORDER BY id DESC LIMIT $4");
const OPEN_OF_JOB: &str = concat!(open_of_job!(), ") AS found ORDER BY id DESC LIMIT $4");

/// `$7` says which of those that have ended. They are looked for in each status by itself, so that an index gives the newest first.
/// (The statuses are written out: of an array the planner knows no length, and would plan for each question anew, with all the
/// partitions of a month.)
const PAGE: &str = concat!(
    open!(),
    "UNION ALL
        (SELECT newest.id FROM (VALUES ('COMPLETED'), ('FAILED'), ('TIMEOUT'), ('CANCELLED')) AS possible (status)
            CROSS JOIN LATERAL (
                SELECT id FROM scheduler.ended
                WHERE org_id = $1 AND status = possible.status AND id < $2 AND id >= $3
                ORDER BY id DESC LIMIT $4) AS newest
            WHERE possible.status = ANY ($7::text[]))
    ) AS found ORDER BY id DESC LIMIT $4"
);

/// The same of the job `$7`, in the statuses `$8`.
const PAGE_OF_JOB: &str = concat!(
    open_of_job!(),
    "UNION ALL
        (SELECT newest.id FROM (VALUES ('COMPLETED'), ('FAILED'), ('TIMEOUT'), ('CANCELLED')) AS possible (status)
            CROSS JOIN LATERAL (
                SELECT id FROM scheduler.ended
                WHERE org_id = $1 AND job_id = $7 AND status = possible.status AND id < $2 AND id >= $3
                ORDER BY id DESC LIMIT $4) AS newest
            WHERE possible.status = ANY ($8::text[]))
    ) AS found ORDER BY id DESC LIMIT $4"
);

/// Which executions a list is about.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only of this job.
    pub job: Option<JobId>,
    /// Whether those that wait.
    pub waiting: bool,
    /// Whether those that run.
    pub running: bool,
    /// Those that ended so.
    pub ended: Vec<&'static str>,
    /// Only ids from this one on.
    pub from: Uuid,
    /// Only ids below this one.
    pub below: Uuid,
}

impl Wanted {
    /// From which id on is looked first. (A clock that is wrong costs a look, or saves none.)
    fn recent(&self) -> Uuid {
        if self.ended.is_empty() {
            return self.from;
        }
        let newest = made_at(self.below.into()).min(Timestamp::now());
        first_id(newest.plus(-RECENT)).max(self.from)
    }
}

/// The newest executions that are wanted, at most so many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn executions_find_in_tx(
    tx: &mut Tx,
    org: OrgId,
    wanted: &Wanted,
    most: i64,
) -> Result<Vec<Uuid>, DatabaseError> {
    let recent = wanted.recent();
    let found = find_in_tx(tx, org, wanted, recent, most).await?;
    // When there are more from the border on than the page takes, it does not matter what there is before.
    if recent == wanted.from || found.len() as i64 >= most {
        return Ok(found);
    }
    // All anew: what was found may have moved, and counts where it is now.
    find_in_tx(tx, org, wanted, wanted.from, most).await
}

async fn find_in_tx(
    tx: &mut Tx,
    org: OrgId,
    wanted: &Wanted,
    from: Uuid,
    most: i64,
) -> Result<Vec<Uuid>, DatabaseError> {
    let sql = match (wanted.job.is_some(), wanted.ended.is_empty()) {
        (false, false) => PAGE,
        (false, true) => OPEN,
        (true, false) => PAGE_OF_JOB,
        (true, true) => OPEN_OF_JOB,
    };
    let mut query = sqlx::query_scalar(sql)
        .bind(org.0)
        .bind(wanted.below)
        .bind(from)
        .bind(most)
        .bind(wanted.waiting)
        .bind(wanted.running);
    if let Some(job) = wanted.job {
        query = query.bind(job.0);
    }
    if !wanted.ended.is_empty() {
        query = query.bind(&wanted.ended);
    }
    Ok(query.fetch_all(&mut **tx).await?)
}

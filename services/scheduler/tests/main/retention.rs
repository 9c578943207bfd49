//! What is old goes by the day: its partitions are dropped, or stay while an execution will come back to them,
//! or one of them ended not so long ago.

use dashfleet_scheduler::config::Timing;
use dashfleet_scheduler::store::chores::partitions_drop;
use domain::{JobId, OrgId};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::stage::{PLAIN, Stage};
use super::world::{BEGIN, FINISH};

/// For so many days ended executions are kept.
const KEPT_DAYS: i32 = 30;

const ATTEMPTS: &str = r#"[
    {"attempt": 1, "outcome": "FAILED", "startedAt": "2026-01-01T00:00:00.000Z", "endedAt": "2026-01-01T00:00:01.000Z"}
]"#;

/// Days past, with partitions and without a service: what it would drop, the test does.
struct Past {
    stage: Stage,
    org: OrgId,
    job: JobId,
    /// The database's day when the test began.
    today: String,
    days: Vec<i32>,
}

impl Past {
    async fn new(days: &[i32]) -> Self {
        let stage = Stage::with_admins(&[], Timing::default()).await;
        let org = OrgId::new();
        let job = stage.job(org, PLAIN).await;
        let today = "SELECT (now() AT TIME ZONE 'UTC')::date::text";
        let today = stage.text(today).await.unwrap();
        for days in days {
            let day = format!("date '{today}' - {days}");
            let made = format!("SELECT scheduler.partitions_ensure({day}, {day})::bigint");
            assert_eq!(stage.count(&made).await, 2);
        }
        Self {
            stage,
            org,
            job,
            today,
            days: days.to_vec(),
        }
    }

    /// One of that day that waits for its second attempt, and what the first one logged.
    async fn waiting(&self, days: i32, nth: u128) -> Uuid {
        let today = &self.today;
        let first = format!("SELECT scheduler.first_id(date '{today}' - {days})::text");
        let first: Uuid = self.stage.text(&first).await.unwrap().parse().unwrap();
        let id = Uuid::from_u128(first.as_u128() + nth);
        let made = self.stage.enqueue(self.org, self.job, "", 1).await[0].id;
        self.stage
            .execute(&format!(
                "UPDATE scheduler.waiting SET id = '{id}', attempt = 1, failures = 1, attempts = '{ATTEMPTS}' WHERE id = '{made}'"
            ))
            .await;
        self.stage
            .execute(&format!(
                "INSERT INTO scheduler.log_chunks (org_id, execution_id, attempt, first, lines, bytes)
                VALUES ('{}', '{id}', 1, 0, ARRAY['a line'], 100)",
                self.org
            ))
            .await;
        id
    }

    async fn begin(&self, id: Uuid) {
        let begun = sqlx::query(BEGIN)
            .bind(vec![id])
            .bind(Uuid::now_v7())
            .execute(self.stage.pools.system())
            .await
            .unwrap();
        assert_eq!(begun.rows_affected(), 1);
    }

    /// So many days ago.
    async fn finish(&self, id: Uuid, days: i32) {
        let then = format!("started_at, now() - interval '{days} days'");
        let finish = FINISH.replace("started_at, now()", &then);
        assert_ne!(finish, FINISH);
        let ended = sqlx::query(AssertSqlSafe(finish))
            .bind(vec![id])
            .bind("COMPLETED")
            .execute(self.stage.pools.system())
            .await
            .unwrap();
        assert_eq!(ended.rows_affected(), 1);
    }

    /// One of that day that ended on that day.
    async fn ended(&self, days: i32, nth: u128) {
        let id = self.waiting(days, nth).await;
        self.begin(id).await;
        self.finish(id, days).await;
    }

    /// How many partitions the service's own call drops.
    async fn drop_old(&self) -> i32 {
        partitions_drop(self.stage.pools.system(), KEPT_DAYS)
            .await
            .unwrap()
    }

    /// Of which days there are partitions: of what ended, and of what was logged.
    async fn kept(&self) -> [Vec<i32>; 2] {
        [
            self.kept_of("ended").await,
            self.kept_of("log_chunks").await,
        ]
    }

    async fn kept_of(&self, parent: &str) -> Vec<i32> {
        let mut kept = Vec::new();
        for days in &self.days {
            let day = format!("to_char(date '{}' - {days}, 'YYYYMMDD')", self.today);
            let there = format!("SELECT count(to_regclass('scheduler.{parent}_' || {day}))");
            if self.stage.count(&there).await == 1 {
                kept.push(*days);
            }
        }
        kept
    }

    /// How many have ended, and how many chunks were logged.
    async fn rows(&self) -> [i64; 2] {
        [
            self.stage.rows("ended").await,
            self.stage.rows("log_chunks").await,
        ]
    }
}

#[tokio::test]
async fn old_days_are_dropped_and_one_that_something_open_will_end_in_stays() {
    let past = Past::new(&[5, 40, 41, 42]).await;
    for days in [5, 40, 41, 42] {
        for nth in [1, 2] {
            past.ended(days, nth).await;
        }
    }
    let waits = past.waiting(41, 3).await;
    let runs = past.waiting(42, 3).await;
    past.begin(runs).await;
    assert_eq!(past.rows().await, [8, 10]);

    assert_eq!(past.drop_old().await, 2);
    assert_eq!(past.kept().await, [vec![5, 41, 42], vec![5, 41, 42]]);
    assert_eq!(past.rows().await, [6, 8], "two of the one day are gone");
    assert_eq!(past.drop_old().await, 0);

    past.begin(waits).await;
    assert_eq!(past.drop_old().await, 0, "it runs now");
    past.finish(waits, 31).await;
    assert_eq!(past.drop_old().await, 2);
    assert_eq!(past.kept().await, [vec![5, 42], vec![5, 42]]);
    past.finish(runs, 31).await;
    assert_eq!(past.drop_old().await, 2);
    assert_eq!(past.kept().await, [vec![5], vec![5]]);
    assert_eq!(past.rows().await, [2, 2]);
}

#[tokio::test]
async fn what_ended_late_is_kept_as_long_as_any_other() {
    let past = Past::new(&[40, 41]).await;
    for (days, ended) in [(40, 29), (41, 31)] {
        past.ended(days, 1).await;
        let late = past.waiting(days, 2).await;
        past.begin(late).await;
        past.finish(late, ended).await;
    }
    assert_eq!(past.drop_old().await, 2);
    assert_eq!(past.kept().await, [vec![40], vec![40]]);
    assert_eq!(past.rows().await, [2, 2]);
}

#[tokio::test]
async fn one_that_is_being_read_is_dropped_the_next_time() {
    let past = Past::new(&[40]).await;
    past.ended(40, 1).await;
    let mut reader = past.stage.pools.system_tx().await.unwrap();
    sqlx::query("SELECT id FROM scheduler.ended")
        .execute(&mut *reader)
        .await
        .unwrap();
    assert_eq!(past.drop_old().await, 1);
    assert_eq!(past.kept().await, [vec![40], vec![]]);
    reader.commit().await.unwrap();
    assert_eq!(past.drop_old().await, 1);
    assert!(past.kept().await.concat().is_empty());
}

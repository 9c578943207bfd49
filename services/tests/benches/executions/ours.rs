//! DashFleet's part: executions of one job, which is paused while they are enqueued.

use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use reqwest::Method;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::usage::{self, Part};
use crate::{CALL, WARM_UP, job};

/// Everything of the product that has a part in it, or could.
const PARTS: [&str; 9] = [
    "gateway",
    "scheduler",
    "worker",
    "identity",
    "action",
    "metrics",
    "agent",
    "nats",
    "postgres",
];

/// An execution is in one table at any time.
const IS_OPEN: &str =
    "SELECT EXISTS (SELECT FROM scheduler.waiting) OR EXISTS (SELECT FROM scheduler.running)";
const COMPLETED: &str =
    "SELECT count(*) FROM scheduler.ended WHERE job_id = $1 AND status = 'COMPLETED'";

/// How often PostgreSQL is asked whether anything is open.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(300);

/// DashFleet.
pub struct Ours {
    api: Api,
    job: String,
    pub parts: Vec<Part>,
    /// How often PostgreSQL was asked.
    pub questions: i64,
    completed: usize,
}

impl Ours {
    pub async fn new(product: &Product) -> Self {
        let api = product.api();
        Self {
            job: job(&api, "enqueued").await,
            api,
            parts: usage::parts(product, &PARTS),
            questions: 0,
            completed: 0,
        }
    }

    pub async fn warm_up(&mut self, database: &mut PgConnection) {
        self.enqueue(WARM_UP).await;
        self.complete(WARM_UP, database).await;
    }

    pub async fn enqueue(&self, count: usize) -> Duration {
        self.job_do("pause").await;
        let begun = Instant::now();
        let mut left = count;
        while left > 0 {
            let items = vec![json!({ "jobId": self.job }); left.min(CALL)];
            left -= items.len();
            let order = json!({ "items": items });
            let (status, body) = self.api.post("/api/v1/executions/batch", order).await;
            assert_eq!(status, 202, "{body}");
        }
        begun.elapsed()
    }

    pub async fn complete(&mut self, count: usize, database: &mut PgConnection) -> Duration {
        let begun = Instant::now();
        self.job_do("resume").await;
        while self.is_open(database).await {
            assert!(begun.elapsed() < PATIENCE, "executions that do not end");
            tokio::time::sleep(LOOK).await;
        }
        let took = begun.elapsed();
        self.completed += count;
        let completed: i64 = sqlx::query_scalar(COMPLETED)
            .bind(Uuid::parse_str(&self.job).expect("an id"))
            .fetch_one(database)
            .await
            .expect("a count");
        assert_eq!(
            completed as usize, self.completed,
            "all of them are COMPLETED"
        );
        took
    }

    async fn is_open(&mut self, database: &mut PgConnection) -> bool {
        self.questions += 1;
        sqlx::query_scalar(IS_OPEN)
            .fetch_one(database)
            .await
            .expect("an answer")
    }

    async fn job_do(&self, word: &str) {
        let path = format!("/api/v1/jobs/{}/{word}", self.job);
        let answer = self.api.send(Method::POST, &path, &[], None).await;
        let (status, body) = answer.expect("an answer");
        assert!(status.is_success(), "POST {path}: {status} {body}");
    }
}

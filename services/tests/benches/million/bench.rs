//! A product that is measured.

use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::fill;

const BATCH: usize = 10_000;
const QUEUED: usize = 100_000;
/// How long 100,000 may take.
const PATIENCE: Duration = Duration::from_secs(600);
const JOBS: &str = "/api/v1/jobs";

/// Whether anything of a job waits or runs.
const OPEN: &str = "
    SELECT EXISTS (SELECT FROM scheduler.waiting WHERE job_id = $1)
        OR EXISTS (SELECT FROM scheduler.running WHERE job_id = $1)";
/// In a second, from the first beginning to the last end.
const RATE: &str = "
    SELECT (count(*) / extract(epoch FROM max(ended_at) - min(started_at)))::float8 FROM scheduler.ended
    WHERE org_id = $1 AND job_id = $2 AND status = 'COMPLETED'";
/// Of each tenth, in their order.
const TENTHS: &str = "
    SELECT (count(*) / extract(epoch FROM max(ended_at) - min(ended_at)))::float8 FROM (
        SELECT ended_at, ntile(10) OVER (ORDER BY ended_at) AS tenth FROM scheduler.ended
        WHERE org_id = $1 AND job_id = $2 AND status = 'COMPLETED') AS place
    GROUP BY tenth ORDER BY tenth";
/// What waits of all but one job.
const HELD: &str = "SELECT count(*) FROM scheduler.waiting WHERE job_id <> $1";

/// A product, and the organisation in it that is measured.
pub struct Bench {
    pub api: Api,
    pub org: Uuid,
    pub owner: PgConnection,
    jobs: usize,
    /// Last: it stops when nobody asks it any more.
    _product: Product,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}

impl Bench {
    pub async fn start() -> Self {
        let product = Product::start(1);
        let dev = product.dev();
        Self {
            api: product.api(),
            org: text(&dev, "organizationId").parse().expect("an id"),
            owner: fill::owner(&text(&dev, "postgresUrl")).await,
            jobs: 0,
            _product: product,
        }
    }

    /// All of the history, or a little of it.
    pub async fn fill(&mut self, all: bool) {
        fill::fill(&mut self.owner, self.org, all).await;
    }

    /// As autovacuum does it.
    pub async fn tidy(&mut self) {
        fill::tidy(&mut self.owner).await;
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.api.post(path, body).await;
        assert!(status.is_success(), "POST {path}: {status} {body}");
        body
    }

    /// Asks for so many executions of a new job, and lets them begin when all of them wait; the job, when all have ended.
    async fn drained(&mut self, count: usize) -> Uuid {
        self.jobs += 1;
        let job = json!({ "name": format!("drained {}", self.jobs), "handler": "builtin/noop", "retries": 0 });
        let job = text(&self.made(JOBS, job).await, "id");
        let path = format!("{JOBS}/{job}");
        self.made(&format!("{path}/pause"), json!({})).await;
        for _ in 0..count / BATCH {
            let items = vec![json!({ "jobId": job }); BATCH];
            let batch = json!({ "items": items });
            self.made("/api/v1/executions/batch", batch).await;
        }
        let id: Uuid = job.parse().expect("an id");
        let held = self.held(id).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.made(&format!("{path}/resume"), json!({})).await;
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let open: bool = sqlx::query_scalar(OPEN)
                .bind(id)
                .fetch_one(&mut self.owner)
                .await
                .expect("what is open");
            if !open {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "they do not end");
        }
        assert_eq!(self.held(id).await, held, "what may not begin still waits");
        id
    }

    async fn held(&mut self, job: Uuid) -> i64 {
        let held = sqlx::query_scalar(HELD).bind(job);
        held.fetch_one(&mut self.owner).await.expect("a count")
    }

    /// Claims in a second, of 10,000 that were drained.
    pub async fn claims(&mut self) -> f64 {
        let job = self.drained(BATCH).await;
        sqlx::query_scalar(RATE)
            .bind(self.org)
            .bind(job)
            .fetch_one(&mut self.owner)
            .await
            .expect("a rate")
    }

    /// Claims in a second while as many as a hundred thousand wait that may begin, of each tenth of them.
    pub async fn tenths(&mut self) -> Vec<f64> {
        let job = self.drained(QUEUED).await;
        sqlx::query_scalar(TENTHS)
            .bind(self.org)
            .bind(job)
            .fetch_all(&mut self.owner)
            .await
            .expect("rates")
    }
}

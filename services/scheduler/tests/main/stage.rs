//! A scheduler without users: jobs and executions are written straight into its tables, and workers are played.

use std::time::Duration;

use bus::Bus;
use contract::Problem;
use contract::run::{
    Assignment, Finish, FinishVerdict, Offer, Place, RunBegin, RunClaim, RunClaimed, RunEnd,
    RunFinish, RunLease, RunProgress, RunRenew,
};
use dashfleet_scheduler::Config;
use dashfleet_scheduler::config::Timing;
use database::Pools;
use domain::execution::Outcome;
use domain::{ExecutionId, JobId, OrgId};
use runtime::{Reader, Shutdown};
use sqlx::AssertSqlSafe;
use testkit::{Nats, Postgres, TestDatabase};
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(10);
const ASKING: Duration = Duration::from_secs(5);

pub struct Stage {
    pub nats: Nats,
    _database: TestDatabase,
    pub pools: Pools,
    shutdown: Shutdown,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// A job as these tests want it.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    pub retries: i16,
    pub backoff_ms: i64,
    pub concurrency: Option<i32>,
    pub key_concurrency: Option<i32>,
    pub rate: Option<(i32, i64)>,
}

pub const PLAIN: Sort = Sort {
    retries: 0,
    backoff_ms: 0,
    concurrency: None,
    key_concurrency: None,
    rate: None,
};

impl Stage {
    pub async fn new(timing: Timing) -> Self {
        Self::with_replicas(1, timing).await
    }

    pub async fn with_replicas(replicas: usize, timing: Timing) -> Self {
        let anywhere = vec!["127.0.0.1:0".to_owned(); replicas];
        Self::begun("default", &anywhere, timing).await
    }

    pub async fn with_pools(pools: &str, replicas: usize, timing: Timing) -> Self {
        let anywhere = vec!["127.0.0.1:0".to_owned(); replicas];
        Self::begun(pools, &anywhere, timing).await
    }

    /// A replica for each address, at which it says how it is. Without any there is the database alone.
    pub async fn with_admins(admins: &[String], timing: Timing) -> Self {
        Self::begun("default", admins, timing).await
    }

    async fn begun(pools: &str, admins: &[String], timing: Timing) -> Self {
        let nats = Nats::start_with_pools(pools).await;
        let database = Postgres::shared().await.database().await;
        let shutdown = Shutdown::new();
        for admin in admins {
            let mut reader = Reader::from_pairs([
                ("DASHFLEET_NATS_URLS", nats.url()),
                (
                    "DASHFLEET_KEYS",
                    nats.keys("scheduler").display().to_string(),
                ),
                ("DASHFLEET_ADMIN_ADDR", admin.clone()),
                ("DASHFLEET_SCHEDULER_POOLS", pools.to_owned()),
                ("DASHFLEET_DATABASE_URL", database.url("df_scheduler")),
                (
                    "DASHFLEET_DATABASE_SYSTEM_URL",
                    database.url("df_scheduler_system"),
                ),
            ]);
            let config = Config {
                timing,
                ..Config::read(&mut reader).unwrap()
            };
            let ending = shutdown.clone();
            tokio::spawn(async move { dashfleet_scheduler::run(config, ending).await.unwrap() });
        }
        let pools = database.pools("scheduler");
        let stage = Self {
            nats,
            _database: database,
            pools,
            shutdown,
        };
        if admins.is_empty() {
            return stage;
        }
        testkit::eventually("there are partitions", PATIENCE, || async {
            (stage.count("SELECT count(*) FROM pg_inherits WHERE inhparent = 'scheduler.ended'::regclass").await > 0)
                .then_some(())
        })
        .await;
        stage
    }

    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(self.pools.system())
            .await
            .unwrap()
    }

    pub async fn text(&self, sql: &str) -> Option<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_optional(self.pools.system())
            .await
            .unwrap()
            .flatten()
    }

    pub async fn execute(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(self.pools.system())
            .await
            .unwrap();
    }

    pub async fn job(&self, org: OrgId, sort: Sort) -> JobId {
        let id = JobId::new();
        let mut tx = self.pools.tenant_tx(org).await.unwrap();
        sqlx::query("INSERT INTO scheduler.tenants (org_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(org.0)
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO scheduler.jobs (org_id, id, name, handler, pool, timeout_ms, retries, backoff_ms, concurrency,
                key_concurrency, rate_max, rate_per_ms, created_at, updated_at)
            VALUES ($1, $2, $3, 'builtin/noop', 'default', 60000, $4, $5, $6, $7, $8, $9, now(), now())",
        )
        .bind(org.0)
        .bind(id.0)
        .bind(id.to_string())
        .bind(sort.retries)
        .bind(sort.backoff_ms)
        .bind(sort.concurrency)
        .bind(sort.key_concurrency)
        .bind(sort.rate.map(|rate| rate.0))
        .bind(sort.rate.map(|rate| rate.1))
        .execute(&mut *tx)
        .await
        .unwrap();
        dashfleet_scheduler::store::limits::limits_set_in_tx(&mut tx, org, id)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Executions that wait for a worker, of which nobody rings.
    pub async fn enqueue(&self, org: OrgId, job: JobId, key: &str, count: usize) -> Vec<Offer> {
        self.enqueue_in("default", org, job, key, count).await
    }

    /// The same, for workers of this pool.
    pub async fn enqueue_in(
        &self,
        pool: &str,
        org: OrgId,
        job: JobId,
        key: &str,
        count: usize,
    ) -> Vec<Offer> {
        let ids: Vec<Uuid> = (0..count).map(|_| ExecutionId::new().0).collect();
        let mut tx = self.pools.tenant_tx(org).await.unwrap();
        sqlx::query(
            "INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, principal_kind, principal_id,
                credential, scheduled_for, created_at)
            SELECT $1, id, $2, $5, $3, 0, true, now(), 'USER', $1, $1, now(), now() FROM unnest($4::uuid[]) AS id",
        )
        .bind(org.0)
        .bind(job.0)
        .bind(key)
        .bind(&ids)
        .bind(pool)
        .execute(&mut *tx)
        .await
        .unwrap();
        if !key.is_empty() {
            dashfleet_scheduler::store::limits::limits_key_in_tx(&mut tx, org, job, &[key.into()])
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let offer = |id| Offer {
            org,
            id: ExecutionId(id),
            turn: 0,
        };
        ids.into_iter().map(offer).collect()
    }

    pub async fn worker(&self) -> Worker {
        self.worker_of("default").await
    }

    pub async fn worker_of(&self, pool: &str) -> Worker {
        let bus = self.nats.bus(&contract::work::caller(pool)).await;
        Worker::begin(bus, None).await
    }

    /// A worker that may have so many at once.
    pub async fn worker_with(&self, slots: i32) -> Worker {
        let bus = self.nats.bus("worker-default").await;
        Worker::begin_of(bus, None, slots).await
    }

    /// Where an execution is, and how: `waiting`, `running`, or its status.
    pub async fn state(&self, offer: Offer) -> String {
        self.text(&format!(
            "SELECT 'waiting' FROM scheduler.waiting WHERE id = '{0}' UNION ALL
            SELECT 'running' FROM scheduler.running WHERE id = '{0}' UNION ALL
            SELECT status FROM scheduler.ended WHERE id = '{0}'",
            offer.id
        ))
        .await
        .expect("an execution")
    }
}

/// A worker's life.
#[derive(Clone)]
pub struct Worker {
    pub bus: Bus,
    pub session: Uuid,
}

impl Worker {
    pub async fn begin(bus: Bus, replaces: Option<Uuid>) -> Self {
        Self::begin_of(bus, replaces, 5).await
    }

    async fn begin_of(bus: Bus, replaces: Option<Uuid>, concurrency: i32) -> Self {
        let worker = Self {
            bus,
            session: Uuid::now_v7(),
        };
        let begin = RunBegin {
            session_id: worker.session,
            worker: "test".into(),
            concurrency,
            replaces,
        };
        testkit::eventually("the session begins", PATIENCE, || async {
            worker.bus.service_call(&begin, None, ASKING).await.ok()
        })
        .await;
        worker
    }

    pub async fn renew(&self) -> Result<RunLease, Problem> {
        self.renew_with(Vec::new()).await
    }

    /// Renews, and says how far these are.
    pub async fn renew_with(&self, progress: Vec<RunProgress>) -> Result<RunLease, Problem> {
        let renew = RunRenew {
            session_id: self.session,
            progress,
        };
        self.bus.service_call(&renew, None, ASKING).await
    }

    pub async fn try_claim(&self, offers: &[Offer]) -> Result<Vec<Assignment>, Problem> {
        let claim = RunClaim {
            want: 0,
            returned: Vec::new(),
            session_id: self.session,
            offers: offers.to_vec(),
        };
        let claimed: RunClaimed = self.bus.service_call(&claim, None, ASKING).await?;
        Ok(claimed.granted)
    }

    pub async fn claim(&self, offers: &[Offer]) -> Vec<Assignment> {
        self.try_claim(offers).await.unwrap()
    }

    pub async fn finish(&self, place: Place, outcome: Outcome) -> FinishVerdict {
        self.finish_all(&[place], outcome).await[0]
    }

    pub async fn finish_all(&self, places: &[Place], outcome: Outcome) -> Vec<FinishVerdict> {
        let finish = RunFinish {
            items: places.iter().map(|place| finish(*place, outcome)).collect(),
        };
        self.bus
            .service_call(&finish, None, ASKING)
            .await
            .unwrap()
            .verdicts
    }

    pub async fn end(&self) {
        let end = RunEnd {
            session_id: self.session,
        };
        self.bus.service_call(&end, None, ASKING).await.unwrap();
    }
}

pub fn finish(place: Place, outcome: Outcome) -> Finish {
    let failed = !matches!(outcome, Outcome::Completed | Outcome::HandedBack);
    Finish {
        place,
        outcome,
        duration_ms: 1,
        result: (outcome == Outcome::Completed).then(|| serde_json::json!({ "done": true })),
        error: failed.then(|| contract::execution::ExecutionError {
            message: "it did not work".into(),
            stack: None,
        }),
        permanent: false,
    }
}

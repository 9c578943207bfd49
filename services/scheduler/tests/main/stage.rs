//! A scheduler without users: jobs and executions are written straight into its tables, and workers are played.

use std::time::Duration;

use bus::{Message, Subscription};
use contract::run::{Offer, Place};
use dashfleet_scheduler::Config;
use dashfleet_scheduler::config::Timing;
use database::Pools;
use domain::{ExecutionId, JobId, OrgId};
use futures::StreamExt;
use runtime::{Reader, Shutdown};
use sqlx::AssertSqlSafe;
use testkit::{Nats, Postgres, TestDatabase};
use uuid::Uuid;

pub use self::worker::{Worker, finish};

mod worker;

pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many transactions of the role that asks wait for another.
pub const STANDS: &str = "
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND wait_event_type = 'Lock'";

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

impl Sort {
    /// What fails is tried again so often, at once.
    pub const fn with_retries(retries: i16) -> Self {
        Self { retries, ..PLAIN }
    }
}

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

    /// How many a table of the scheduler's has.
    pub async fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM scheduler.{table}");
        self.count(&sql).await
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

    /// No session has been renewed in time: whoever looks next ends them all.
    pub async fn expire_sessions(&self) {
        self.execute("UPDATE scheduler.sessions SET expires_at = now() - interval '1 s'")
            .await;
    }

    /// What is published from now on, as the gateway hears it.
    pub async fn listen(&self, pattern: &str) -> Subscription {
        let gateway = self.nats.bus("gateway").await;
        let heard = gateway.subscribe(pattern).await.unwrap();
        gateway.flush().await.unwrap();
        heard
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
        // As dispatchers say it: one alone may be the first of its organisation, many are not.
        let offer = |id| Offer {
            org,
            id: ExecutionId(id),
            turn: u64::from(count > 1),
        };
        ids.into_iter().map(offer).collect()
    }

    /// What waits of a new organisation's only job: so many.
    pub async fn waiting(&self, sort: Sort, count: usize) -> Vec<Offer> {
        let org = OrgId::new();
        let job = self.job(org, sort).await;
        self.enqueue(org, job, "", count).await
    }

    /// As many, and a worker that has begun them all.
    pub async fn running(&self, sort: Sort, count: usize) -> (Worker, Vec<Place>) {
        let offers = self.waiting(sort, count).await;
        let worker = self.worker().await;
        let places = worker.places(&offers).await;
        assert_eq!(places.len(), count, "all of them begin");
        (worker, places)
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
    pub async fn state(&self, id: ExecutionId) -> String {
        self.text(&format!(
            "SELECT 'waiting' FROM scheduler.waiting WHERE id = '{id}' UNION ALL
            SELECT 'running' FROM scheduler.running WHERE id = '{id}' UNION ALL
            SELECT status FROM scheduler.ended WHERE id = '{id}'"
        ))
        .await
        .expect("an execution")
    }
}

/// The next message that is heard.
pub async fn next_of(heard: &mut Subscription) -> Message {
    let message = tokio::time::timeout(PATIENCE, heard.next()).await;
    message.unwrap().unwrap()
}

//! A bus, a database, the scheduler, and a stand-in for identity that speaks the real protocol.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::{Bus, Service};
use contract::audit::{AuditAppend, AuditAppended, AuditEntry, AuditOutcome, AuditVerdict};
use contract::event::Event;
use contract::execution::{Execution, ExecutionGet, ExecutionRetry, RunAs};
use contract::grant::{Grant, ISSUER, Jwk, Jwks, PrincipalKind};
use contract::identity::JwksGet;
use contract::job::{Job, JobCreate, JobExecute, JobGet, Order};
use contract::run::Offer;
use contract::{Call, Envelope, Problem, ProblemKind};
use dashfleet_scheduler::Config;
use database::Pools;
use domain::access::{JOBS_EXECUTE, Role, Scopes};
use domain::execution::ExecutionStatus;
use domain::{CredentialId, ExecutionId, JobId, OrgId, Timestamp};
use futures::StreamExt;
use nkeys::KeyPair;
use runtime::{Reader, Shutdown};
use serde_json::{Map, Value};
use testkit::{Nats, Postgres};
use uuid::Uuid;

use super::stage::Worker;

pub const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

const PARTITIONS: &str = "SELECT scheduler.partitions_ensure(current_date - 2, current_date + 2)";
const SESSION: &str = "
    INSERT INTO scheduler.sessions (id, pool, worker, concurrency, expires_at)
    VALUES ($1, 'default', 'test', 1, now() + interval '1 day')";

/// As a claim does it.
pub const BEGIN: &str = "
    WITH gone AS (DELETE FROM scheduler.waiting WHERE id = ANY ($1) RETURNING *)
    INSERT INTO scheduler.running (org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind,
        principal_id, credential, traceparent, scheduled_for, created_at, attempt, failures, losses, attempts, token, version,
        session_id, started_at, timeout_ms, retries, backoff_ms)
    SELECT org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind, principal_id, credential,
        traceparent, scheduled_for, created_at, attempt + 1, failures, losses, attempts, gen_random_uuid(), version + 1,
        $2, now(), 60000, 3, 1000
    FROM gone";

/// As a finish does it that is the last.
pub const FINISH: &str = "
    WITH gone AS (DELETE FROM scheduler.running WHERE id = ANY ($1) RETURNING *),
    freed AS (
        DELETE FROM scheduler.deduplications AS taken USING gone
        WHERE taken.org_id = gone.org_id AND taken.execution_id = gone.id
    )
    INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind,
        principal_id, credential, traceparent, scheduled_for, created_at, attempt, failures, losses, attempts, token, version,
        status, started_at, ended_at, result, error, dead_letter)
    SELECT org_id, id, job_id, pool, key, priority, override, deduplication_key, principal_kind, principal_id, credential,
        traceparent, scheduled_for, created_at, attempt, failures + 1, losses, attempts, token, version + 1, $2::text,
        started_at, now(), CASE WHEN $2::text = 'COMPLETED' THEN '{\"done\": true}'::jsonb END,
        CASE WHEN $2::text <> 'COMPLETED' THEN '{\"message\": \"it did not work\"}'::jsonb END,
        $2::text IN ('FAILED', 'TIMEOUT')
    FROM gone";

const ASKER: &str = "SELECT principal_kind, principal_id, credential, traceparent FROM scheduler.waiting WHERE id = $1";

const LOG: &str = "
    INSERT INTO scheduler.log_chunks (org_id, execution_id, attempt, first, lines, bytes) VALUES ($1, $2, $3, $4, $5, $6)";

pub struct World {
    pub pools: Pools,
    pub gateway: Bus,
    pub org: OrgId,
    /// What the audit was told.
    entries: Arc<Mutex<Vec<AuditEntry>>>,
    /// What was published.
    events: Arc<Mutex<Vec<Event>>>,
    session: Uuid,
    jwt: KeyPair,
    shutdown: Shutdown,
    _services: Vec<Service>,
    pub nats: Nats,
}

fn pkcs8(seed: &str) -> Vec<u8> {
    let (_, raw) = nkeys::decode_seed(seed).unwrap();
    [
        &[
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ][..],
        &raw[..],
    ]
    .concat()
}

/// Identity, as far as grants and the audit go.
async fn identity(nats: &Nats, jwt: &KeyPair, entries: &Arc<Mutex<Vec<AuditEntry>>>) -> Service {
    let identity = Service::start(&nats.bus("identity").await, "identity", None)
        .await
        .unwrap();
    let (_, raw) = nkeys::from_public_key(&jwt.public_key()).unwrap();
    let jwks = Jwks {
        keys: vec![Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(raw),
            kid: "test".into(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        }],
    };
    identity
        .answer(move |_, _: JwksGet| std::future::ready(Ok(jwks.clone())))
        .await
        .unwrap();
    let entries = entries.clone();
    identity
        .answer(move |_, append: AuditAppend| {
            let items = vec![AuditVerdict::Applied; append.entries.len()];
            entries.lock().unwrap().extend(append.entries);
            std::future::ready(Ok(AuditAppended { items }))
        })
        .await
        .unwrap();
    identity
}

/// Notes every event that is published.
async fn listen(gateway: &Bus, events: &Arc<Mutex<Vec<Event>>>) {
    let mut heard = gateway.subscribe("df.evt.>").await.unwrap();
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
            events.lock().unwrap().push(event.body);
        }
    });
    gateway.flush().await.unwrap();
}

impl World {
    pub async fn new() -> Self {
        Self::with_replicas(1).await
    }

    pub async fn with_replicas(replicas: usize) -> Self {
        let nats = Nats::start().await;
        let database = Postgres::shared().await.database().await;
        let pools = database.pools("scheduler");
        // Executions of days past are in the tests too.
        sqlx::query(PARTITIONS)
            .execute(pools.system())
            .await
            .unwrap();
        let session = Uuid::now_v7();
        sqlx::query(SESSION)
            .bind(session)
            .execute(pools.system())
            .await
            .unwrap();
        let jwt = KeyPair::new_user();
        let (entries, events) = (Arc::default(), Arc::default());
        let services = vec![identity(&nats, &jwt, &entries).await];
        let shutdown = Shutdown::new();
        for _ in 0..replicas {
            let mut reader = Reader::from_pairs([
                ("DASHFLEET_NATS_URLS", nats.url()),
                (
                    "DASHFLEET_KEYS",
                    nats.keys("scheduler").display().to_string(),
                ),
                ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
                ("DASHFLEET_DATABASE_URL", database.url("df_scheduler")),
                (
                    "DASHFLEET_DATABASE_SYSTEM_URL",
                    database.url("df_scheduler_system"),
                ),
            ]);
            let config = Config::read(&mut reader).unwrap();
            let ending = shutdown.clone();
            tokio::spawn(async move { dashfleet_scheduler::run(config, ending).await.unwrap() });
        }
        let gateway = nats.bus("gateway").await;
        listen(&gateway, &events).await;
        let world = Self {
            pools,
            gateway,
            org: OrgId::new(),
            entries,
            events,
            session,
            jwt,
            shutdown,
            _services: services,
            nats,
        };
        world.settle().await;
        world
    }

    /// Waits until the service answers.
    async fn settle(&self) {
        testkit::eventually("the scheduler answers", PATIENCE, || async {
            let question = JobGet {
                job_id: JobId::new(),
            };
            let asked = self.ask(&question).await;
            asked
                .is_err_and(|problem| problem.kind == ProblemKind::NotFound)
                .then_some(())
        })
        .await;
    }

    pub fn grant(&self, org: OrgId, role: Role) -> String {
        self.grant_with(org, role.scopes())
    }

    pub fn grant_with(&self, org: OrgId, scopes: Scopes) -> String {
        self.sign(&claims(org, scopes))
    }

    /// As identity signs it.
    pub fn sign(&self, grant: &Grant) -> String {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some("test".into());
        jsonwebtoken::encode(
            &header,
            grant,
            &jsonwebtoken::EncodingKey::from_ed_der(&pkcs8(&self.jwt.seed().unwrap())),
        )
        .unwrap()
    }

    pub async fn ask<C: Call>(&self, request: &C) -> Result<C::Reply, Problem> {
        self.ask_as(&self.grant(self.org, Role::Owner), request)
            .await
    }

    pub async fn ask_as<C: Call>(&self, grant: &str, request: &C) -> Result<C::Reply, Problem> {
        self.gateway
            .gateway_call(request, Some(grant), ANSWER)
            .await
    }

    /// A job of this name that does nothing.
    pub async fn job(&self, name: &str) -> Job {
        self.ask(&new_job(name)).await.unwrap()
    }

    pub async fn execute(&self, job: JobId) -> Execution {
        self.ask(&execute(job)).await.unwrap()
    }

    pub async fn get(&self, id: ExecutionId) -> Execution {
        self.ask(&ExecutionGet { execution_id: id }).await.unwrap()
    }

    pub async fn status(&self, id: ExecutionId) -> ExecutionStatus {
        self.get(id).await.status
    }

    /// A worker that claims and finishes for itself.
    pub async fn worker(&self) -> Worker {
        Worker::begin(self.nats.bus("worker-default").await, None).await
    }

    /// By which such a worker claims it.
    pub fn offer(&self, id: ExecutionId) -> Offer {
        Offer {
            org: self.org,
            id,
            turn: 0,
        }
    }

    /// A worker has them.
    pub async fn begin(&self, ids: &[ExecutionId]) -> u64 {
        sqlx::query(BEGIN)
            .bind(raw(ids))
            .bind(self.session)
            .execute(self.pools.system())
            .await
            .unwrap()
            .rows_affected()
    }

    /// They ended so.
    pub async fn finish(&self, ids: &[ExecutionId], status: &str) -> u64 {
        sqlx::query(FINISH)
            .bind(raw(ids))
            .bind(status)
            .execute(self.pools.system())
            .await
            .unwrap()
            .rows_affected()
    }

    /// An execution that ended so.
    pub async fn ended(&self, job: JobId, status: &str) -> ExecutionId {
        let id = self.execute(job).await.id;
        assert_eq!(self.begin(&[id]).await, 1);
        assert_eq!(self.finish(&[id], status).await, 1);
        id
    }

    pub async fn retry(&self, id: ExecutionId) -> Result<Execution, Problem> {
        self.ask(&ExecutionRetry { execution_id: id }).await
    }

    /// A handler logged this.
    pub async fn log(&self, id: ExecutionId, attempt: i32, first: i64, lines: &[String]) {
        let bytes: usize = lines.iter().map(String::len).sum();
        sqlx::query(LOG)
            .bind(self.org.0)
            .bind(id.0)
            .bind(attempt)
            .bind(first)
            .bind(lines)
            .bind(i32::try_from(bytes).unwrap())
            .execute(self.pools.system())
            .await
            .unwrap();
    }

    /// Of what waits: on whose behalf it is (kind, id and credential), and the trace of who asked.
    pub async fn asker_of(&self, id: ExecutionId) -> (String, Uuid, Uuid, Option<String>) {
        sqlx::query_as(ASKER)
            .bind(id.0)
            .fetch_one(self.pools.system())
            .await
            .unwrap()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.pools.system())
            .await
            .unwrap()
    }

    pub async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.pools.system()).await.unwrap();
    }

    /// As the tenant: of jobs the other role may make none.
    pub async fn run_as_tenant(&self, sql: &'static str) {
        let mut tx = self.pools.tenant_tx(self.org).await.unwrap();
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// What the audit was told that was done by these calls, once it is `count` entries.
    pub async fn audited(&self, call: &str, count: usize) -> Vec<AuditEntry> {
        self.told(call, AuditOutcome::Succeeded, count).await
    }

    /// What it was told of these calls that ended so.
    pub async fn told(&self, call: &str, outcome: AuditOutcome, count: usize) -> Vec<AuditEntry> {
        let what = format!("{count} entries of {call}");
        testkit::eventually(&what, PATIENCE, || async {
            let entries = self.entries.lock().unwrap();
            let done = |entry: &&AuditEntry| entry.call == call && entry.outcome == outcome;
            let found: Vec<_> = entries.iter().filter(done).collect();
            assert!(found.len() <= count, "{found:#?}");
            (found.len() == count).then(|| found.into_iter().cloned().collect())
        })
        .await
    }

    /// The events of a thing, once they are `count`.
    pub async fn events_of(&self, id: Uuid, count: usize) -> Vec<Event> {
        let what = format!("{count} events of {id}");
        testkit::eventually(&what, PATIENCE, || async {
            let events = self.events.lock().unwrap();
            let found: Vec<_> = events
                .iter()
                .filter(|event| event.subject_id == id)
                .collect();
            assert!(found.len() <= count, "{found:#?}");
            (found.len() == count).then(|| found.into_iter().cloned().collect())
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// What a grant says of a person whom nobody knows.
pub fn claims(org: OrgId, scopes: Scopes) -> Grant {
    let now = Timestamp::now().millis() / 1_000;
    Grant {
        iss: ISSUER.into(),
        org,
        sub: Uuid::now_v7(),
        kind: PrincipalKind::User,
        role: Role::Owner,
        scopes,
        aud: vec!["scheduler".into()],
        credential: CredentialId::new(),
        iat: now,
        exp: now + 300,
    }
}

/// What a grant says of a key that may ask for executions, and nothing else.
pub fn key_claims(org: OrgId) -> Grant {
    Grant {
        kind: PrincipalKind::ApiKey,
        role: Role::Operator,
        ..claims(org, Scopes::from_names([JOBS_EXECUTE]).unwrap())
    }
}

/// On whose behalf what they ask for is.
pub fn run_as(grant: &Grant) -> RunAs {
    RunAs {
        kind: grant.kind,
        id: grant.sub,
    }
}

fn raw(ids: &[ExecutionId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

pub fn new_job(name: &str) -> JobCreate {
    JobCreate {
        name: name.into(),
        description: String::new(),
        handler: "builtin/noop".into(),
        config: Map::new(),
        enabled: None,
        pool: None,
        priority: None,
        timeout: None,
        retries: None,
        backoff: None,
        concurrency: None,
        key_concurrency: None,
        rate: None,
        idempotency_key: None,
    }
}

pub fn execute(job: JobId) -> JobExecute {
    JobExecute {
        job_id: job,
        order: Order::default(),
        idempotency_key: None,
    }
}

/// An order of which one waits or runs at a time.
pub fn with_key(key: &str) -> Order {
    Order {
        deduplication_key: Some(key.into()),
        ..Order::default()
    }
}

/// The class of a refusal, and the first field that it names.
pub fn refused<T>(answer: Result<T, Problem>) -> (ProblemKind, String) {
    match answer {
        Ok(_) => panic!("it is not refused"),
        Err(problem) => {
            let path = problem.errors.first().map(|error| error.path.clone());
            (problem.kind, path.unwrap_or_default())
        }
    }
}

/// A value's fields.
pub fn fields(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

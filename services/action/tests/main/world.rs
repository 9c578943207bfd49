//! A bus, a database, the action service, and stand-ins for identity and metrics that speak the real protocol.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, BusConfig, Service, Subscription};
use contract::action::{Action, ActionCreate, ActionGet};
use contract::agent::{ReportAnswer, ResultReport, Verdict};
use contract::grant::{Grant, ISSUER, PrincipalKind};
use contract::identity::MachineRecord;
use contract::legacy::{LegacyBind, LegacyBinding};
use contract::metrics::{MachineSelect, Presence, Transport};
use contract::order::{ORDER_PREFIX, Order, PAGE_PREFIX, Signed, SyncPage, SyncRequest};
use contract::subject::{self, Up};
use contract::{Call, Problem};
use dashfleet_action::Config;
use domain::access::{Role, Scopes};
use domain::action::Outcome;
use domain::{
    ActionId, CredentialId, DeploymentId, JournalId, MachineId, OrgId, SessionId, Timestamp,
};
use futures::StreamExt;
use nkeys::KeyPair;
use runtime::{Reader, Shutdown};
use serde_json::{Value, json};
use testkit::{Nats, Postgres, TestDatabase};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::stand_ins::{Feeds, callout, stand_ins};

pub const SECOND: Duration = Duration::from_secs(1);
/// How often ends of chains are signed here: nobody waits a minute.
pub const COUNTERSIGN_EVERY: Duration = Duration::from_millis(400);
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub nats: Nats,
    pub database: TestDatabase,
    pub gateway: Bus,
    pub org: OrgId,
    feeds: Arc<Mutex<Feeds>>,
    deployment: DeploymentId,
    jwt: KeyPair,
    pub shutdown: Shutdown,
    /// What runs, until it is told to end.
    pub replicas: Vec<JoinHandle<()>>,
    _services: Vec<Service>,
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

impl World {
    pub async fn new() -> Self {
        Self::with_replicas(1).await
    }

    pub async fn with_replicas(replicas: usize) -> Self {
        Self::with(replicas, PATIENCE).await
    }

    /// One replica that has so long to end.
    pub async fn ending_in(limit: Duration) -> Self {
        Self::with(1, limit).await
    }

    async fn with(replicas: usize, ending_in: Duration) -> Self {
        let nats = Nats::start().await;
        let database = Postgres::shared().await.database().await;
        let feeds = Arc::new(Mutex::new(Feeds::default()));
        let jwt = KeyPair::new_user();
        let deployment = DeploymentId::new();
        let services = stand_ins(&nats, &feeds, &jwt, deployment).await;
        callout(&nats, &feeds).await;
        let shutdown = Shutdown::new();
        let mut running = Vec::new();
        for _ in 0..replicas {
            let mut reader = Reader::from_pairs([
                ("DASHFLEET_NATS_URLS", nats.url()),
                ("DASHFLEET_KEYS", nats.keys("action").display().to_string()),
                ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
                ("DASHFLEET_SHUTDOWN_MS", ending_in.as_millis().to_string()),
                ("DASHFLEET_DATABASE_URL", database.url("df_action")),
                (
                    "DASHFLEET_DATABASE_SYSTEM_URL",
                    database.url("df_action_system"),
                ),
            ]);
            let config = Config {
                countersign_every: COUNTERSIGN_EVERY,
                ..Config::read(&mut reader).unwrap()
            };
            let ending = shutdown.clone();
            running.push(tokio::spawn(async move {
                dashfleet_action::run(config, ending).await.unwrap();
            }));
        }
        let gateway = nats.bus("gateway").await;
        let world = Self {
            nats,
            database,
            gateway,
            org: OrgId::new(),
            feeds,
            deployment,
            jwt,
            shutdown,
            replicas: running,
            _services: services,
        };
        world.settle().await;
        world
    }

    /// Waits until the service answers and can sign.
    async fn settle(&self) {
        let grant = self.grant(self.org, Role::Owner);
        testkit::eventually("the action service answers", PATIENCE, || async {
            let asked = self
                .gateway
                .gateway_call(
                    &ActionGet {
                        action_id: ActionId::new(),
                    },
                    Some(&grant),
                    SECOND,
                )
                .await;
            let known = !self.feeds.lock().unwrap().action_keys.is_empty();
            (known && asked.is_err_and(|problem| problem.kind == contract::ProblemKind::NotFound))
                .then_some(())
        })
        .await;
    }

    pub fn grant(&self, org: OrgId, role: Role) -> String {
        self.grant_with(org, role.scopes())
    }

    pub fn grant_with(&self, org: OrgId, scopes: Scopes) -> String {
        self.grant_of(org, scopes, CredentialId::new())
    }

    pub fn grant_of(&self, org: OrgId, scopes: Scopes, credential: CredentialId) -> String {
        let now = Timestamp::now().millis() / 1_000;
        let grant = Grant {
            iss: ISSUER.into(),
            org,
            sub: Uuid::now_v7(),
            kind: PrincipalKind::User,
            role: Role::Owner,
            scopes,
            aud: vec!["action".into(), "metrics".into()],
            credential,
            iat: now,
            exp: now + 300,
        };
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some("test".into());
        jsonwebtoken::encode(
            &header,
            &grant,
            &jsonwebtoken::EncodingKey::from_ed_der(&pkcs8(&self.jwt.seed().unwrap())),
        )
        .unwrap()
    }

    pub async fn ask<C: Call>(&self, request: &C) -> Result<C::Reply, Problem> {
        self.ask_as(&self.grant(self.org, Role::Owner), request)
            .await
    }

    pub async fn ask_as<C: Call>(&self, grant: &str, request: &C) -> Result<C::Reply, Problem> {
        self.ask_patiently(grant, request, Duration::from_secs(5))
            .await
    }

    pub async fn ask_patiently<C: Call>(
        &self,
        grant: &str,
        request: &C,
        patience: Duration,
    ) -> Result<C::Reply, Problem> {
        self.gateway
            .gateway_call(request, Some(grant), patience)
            .await
    }

    pub async fn create(&self, machine: MachineId, kind: &str) -> Action {
        let payload = if kind == "message" {
            json!({ "message": "hello" })
        } else {
            json!({})
        };
        self.ask(&new_action(machine, kind, payload)).await.unwrap()
    }

    pub async fn status(&self, action: ActionId) -> String {
        self.ask(&ActionGet { action_id: action })
            .await
            .unwrap()
            .status
            .to_string()
    }

    pub async fn becomes(&self, action: ActionId, status: &str) -> Action {
        testkit::eventually(
            &format!("the action becomes {status}"),
            PATIENCE,
            || async {
                let action = self.ask(&ActionGet { action_id: action }).await.ok()?;
                (action.status.as_str() == status).then_some(action)
            },
        )
        .await
    }

    /// A machine that the mirror knows, and its agent's connection.
    pub async fn machine(&self) -> FakeAgent {
        let key = KeyPair::new_user();
        let machine = self.enroll(&key);
        let agent = FakeAgent::connect(self, &key, machine, JournalId::new()).await;
        testkit::eventually("the machine is mirrored", PATIENCE, || async {
            self.mirrored(machine).await.then_some(())
        })
        .await;
        agent
    }

    /// A machine that identity knows; the mirror learns of it in its own time.
    pub fn enroll(&self, key: &KeyPair) -> MachineId {
        let machine = MachineId::new();
        self.change(|feeds, change| {
            feeds
                .machines
                .push(self.record(change, machine, key.public_key()));
        });
        machine
    }

    fn record(&self, change: i64, machine: MachineId, public_key: String) -> MachineRecord {
        MachineRecord {
            change,
            org: self.org,
            machine_id: machine,
            hostname: "test".into(),
            display_name: None,
            notes: None,
            transport: Transport::Nats,
            public_key,
            legacy: None,
            labels: Default::default(),
            inventory: Default::default(),
            enrolled_at: Timestamp::now(),
            revoked_at: None,
            quarantined_at: None,
            quarantine_reason: None,
            releases: 0,
        }
    }

    /// A machine over HTTP of this name, bound to this key and block; the mirror has it when this returns.
    pub async fn http_machine(&self, name: &str, key: CredentialId, block: &str) -> MachineId {
        let machine = MachineId::new();
        let legacy = LegacyBinding {
            name: name.to_owned(),
            key,
            block: block.to_owned(),
        };
        self.change(|feeds, change| {
            feeds.machines.push(MachineRecord {
                transport: Transport::Http,
                legacy: Some(legacy),
                ..self.record(change, machine, String::new())
            });
        });
        testkit::eventually("the machine is mirrored", PATIENCE, || async {
            self.mirrored(machine).await.then_some(())
        })
        .await;
        machine
    }

    /// What identity knows, to be looked at and turned.
    pub fn identity(&self) -> std::sync::MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap()
    }

    /// What identity was asked about machines over HTTP.
    pub fn binds(&self) -> Vec<LegacyBind> {
        self.feeds.lock().unwrap().binds.clone()
    }

    /// From now on every selector chooses these.
    pub fn choose(&self, machines: &[MachineId]) {
        self.feeds.lock().unwrap().chosen = machines.to_vec();
    }

    /// From now on metrics refuses to choose; or does no longer.
    pub fn refuse_to_choose(&self, problem: Option<Problem>) {
        self.feeds.lock().unwrap().select_refusal = problem;
    }

    /// What metrics was asked to choose since the last look.
    pub fn selects(&self) -> Vec<MachineSelect> {
        std::mem::take(&mut self.feeds.lock().unwrap().selects)
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.database.pools("action").system())
            .await
            .unwrap()
    }

    async fn mirrored(&self, machine: MachineId) -> bool {
        let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM action.machines WHERE id = $1")
            .bind(machine.0)
            .fetch_optional(self.database.pools("action").system())
            .await
            .unwrap();
        found.is_some()
    }

    fn change(&self, how: impl FnOnce(&mut Feeds, i64)) {
        let mut feeds = self.feeds.lock().unwrap();
        feeds.change += 1;
        let change = feeds.change;
        how(&mut feeds, change);
    }

    /// Changes a machine as identity would, and tells everybody.
    pub fn machine_changes(&self, machine: MachineId, how: impl FnOnce(&mut MachineRecord)) {
        self.change(|feeds, change| {
            let mut record = feeds
                .machines
                .iter()
                .rev()
                .find(|record| record.machine_id == machine)
                .unwrap()
                .clone();
            record.change = change;
            how(&mut record);
            feeds.machines.push(record);
        });
    }

    pub async fn presence(&self, machine: MachineId, online: bool) {
        self.change(|feeds, version| {
            feeds.presence.push(Presence {
                org: self.org,
                machine_id: machine,
                online,
                version,
            });
        });
        testkit::eventually("presence is mirrored", PATIENCE, || async {
            let now: bool = sqlx::query_scalar("SELECT online FROM action.machines WHERE id = $1")
                .bind(machine.0)
                .fetch_one(self.database.pools("action").system())
                .await
                .ok()?;
            (now == online).then_some(())
        })
        .await;
    }

    pub fn quarantined(&self) -> usize {
        self.feeds.lock().unwrap().quarantined.len()
    }

    pub async fn execute(&self, sql: &'static str, machine: MachineId) {
        sqlx::query(sql)
            .bind(machine.0)
            .execute(self.database.pools("action").system())
            .await
            .unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

pub fn new_action(machine: MachineId, kind: &str, payload: Value) -> ActionCreate {
    ActionCreate {
        machine_id: machine,
        kind: kind.into(),
        payload,
        not_after: None,
        idempotent: false,
        idempotency_key: None,
        by_key_alone: false,
    }
}

/// An agent's side of the protocol, without a journal: the test says what the journal says.
pub struct FakeAgent {
    pub bus: Bus,
    pub org: OrgId,
    pub machine: MachineId,
    pub orders: Subscription,
    pub journal: JournalId,
    pub session: SessionId,
    pub entries: i64,
    pub head: String,
    pub pinned: Vec<String>,
    /// What it says it obeys; nothing when empty.
    pub keys: Vec<String>,
    deployment: DeploymentId,
}

impl FakeAgent {
    pub async fn connect(
        world: &World,
        key: &KeyPair,
        machine: MachineId,
        journal: JournalId,
    ) -> Self {
        let mut config = BusConfig::agent(
            vec![world.nats.url()],
            None,
            key.seed().unwrap(),
            world.org,
            machine,
        );
        config.reconnect_max = SECOND;
        let bus = Bus::connect(config).await.unwrap();
        assert!(bus.wait_connected(PATIENCE).await);
        let orders = bus
            .subscribe(&subject::act_all(world.org, machine))
            .await
            .unwrap();
        bus.flush().await.unwrap();
        let pinned = world.feeds.lock().unwrap().action_keys.clone();
        Self {
            bus,
            org: world.org,
            machine,
            orders,
            journal,
            session: SessionId::new(),
            entries: 1,
            head: "h1".into(),
            pinned,
            keys: Vec::new(),
            deployment: world.deployment,
        }
    }

    pub async fn sync_with(&self, after: i64, echo: Option<Uuid>) -> Result<SyncPage, Problem> {
        let request = SyncRequest {
            after_seq: after,
            journal_id: self.journal,
            entries: self.entries,
            head: self.head.clone(),
            session_id: self.session,
            boot_id: "boot".into(),
            nonce: Uuid::new_v4(),
            echo,
            keys: self.keys.clone(),
        };
        let signed: Signed = self
            .bus
            .agent_request(
                subject::up(self.org, self.machine, Up::Sync),
                self.org,
                &request,
                Duration::from_secs(5),
            )
            .await?;
        let page: SyncPage =
            serde_json::from_slice(signed.verify(PAGE_PREFIX, &self.pinned).unwrap()).unwrap();
        assert_eq!(
            (page.deployment, page.org, page.machine, page.nonce),
            (self.deployment, self.org, self.machine, request.nonce)
        );
        Ok(page)
    }

    pub async fn sync(&self, after: i64) -> SyncPage {
        self.sync_with(after, None).await.unwrap()
    }

    pub async fn order(&mut self) -> Order {
        let message = tokio::time::timeout(PATIENCE, self.orders.next())
            .await
            .expect("an order")
            .unwrap();
        let signed: Signed = serde_json::from_slice(&message.payload).unwrap();
        let order: Order =
            serde_json::from_slice(signed.verify(ORDER_PREFIX, &self.pinned).unwrap()).unwrap();
        assert!(message.subject.ends_with(order.verb.as_str()));
        order
    }

    pub async fn silence(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.orders.next())
            .await
            .is_err()
    }

    pub async fn say<B: serde::Serialize>(&self, word: Up, body: &B) -> Verdict {
        let answer: ReportAnswer = self
            .bus
            .agent_request(
                subject::up(self.org, self.machine, word),
                self.org,
                body,
                Duration::from_secs(5),
            )
            .await
            .unwrap();
        answer.verdict
    }

    pub async fn result(&self, action: ActionId, attempt: i32, outcome: Outcome) -> Verdict {
        let now = Timestamp::now();
        let report = ResultReport {
            action,
            attempt,
            outcome,
            result: Some(json!({ "said": "done" })),
            error: None,
            accepted_at: Some(now),
            started_at: Some(now),
            finished_at: now,
        };
        self.say(Up::Result, &report).await
    }
}

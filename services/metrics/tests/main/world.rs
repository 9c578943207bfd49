//! A bus, a database, the metrics service, and a stand-in for identity that speaks the real protocol.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, BusConfig, Service, Subscription};
use contract::agent::{
    CpuSample, DiskSample, MemorySample, NetworkSample, Sample, SampleAnswer, SampleBatch,
    SwapSample,
};
use contract::event::Event;
use contract::grant::{Grant, ISSUER, PrincipalKind};
use contract::identity::MachineRecord;
use contract::metrics::{Machine, MachineGet, MachineList, MachinePage, SERVICE};
use contract::subject::{self, Up};
use contract::{Call, Envelope, Problem, ProblemKind};
use dashfleet_metrics::{Config, Timing};
use domain::access::Role;
use domain::labels::Labels;
use domain::machine::MachineStatus;
use domain::{CredentialId, MachineId, OrgId, Timestamp};
use futures::StreamExt;
use nkeys::KeyPair;
use runtime::{Reader, Shutdown};
use testkit::{Nats, Postgres, TestDatabase};
use uuid::Uuid;

pub mod identity;

pub use identity::Identity;
use identity::{callout, stand_in};

pub const SECOND: Duration = Duration::from_secs(1);
pub const PATIENCE: Duration = Duration::from_secs(15);

pub struct World {
    pub nats: Nats,
    /// The other servers of the cluster, if it is one.
    pub others: Vec<Nats>,
    pub database: TestDatabase,
    pub gateway: Bus,
    pub org: OrgId,
    pub identity: Arc<Mutex<Identity>>,
    pub timing: Timing,
    jwt: KeyPair,
    replicas: Vec<Shutdown>,
    _identity: Service,
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
        Self::with(Timing::default(), 1).await
    }

    pub async fn with(timing: Timing, replicas: usize) -> Self {
        let world = Self::without_metrics(timing).await;
        world.with_metrics(replicas).await
    }

    /// A cluster of so many servers; each replica prefers another one.
    pub async fn in_cluster(timing: Timing, replicas: usize, servers: usize) -> Self {
        let mut servers = Nats::start_cluster(servers).await;
        let first = servers.remove(0);
        let mut world = Box::pin(Self::on(timing, first)).await;
        world.others = servers;
        world.with_metrics(replicas).await
    }

    async fn with_metrics(mut self, replicas: usize) -> Self {
        let world = &mut self;
        for _ in 0..replicas {
            world.metrics_start();
        }
        world.settle().await;
        self
    }

    pub async fn without_metrics(timing: Timing) -> Self {
        Self::on(timing, Nats::start().await).await
    }

    async fn on(timing: Timing, nats: Nats) -> Self {
        let database = Postgres::shared().await.database().await;
        let identity = Arc::new(Mutex::new(Identity::default()));
        let jwt = KeyPair::new_user();
        let service = stand_in(&nats, &identity, &jwt).await;
        callout(&nats, &identity).await;
        let gateway = nats.bus("gateway").await;
        Self {
            nats,
            others: Vec::new(),
            database,
            gateway,
            org: OrgId::new(),
            identity,
            timing,
            jwt,
            replicas: Vec::new(),
            _identity: service,
        }
    }

    /// Starts one more replica.
    pub fn metrics_start(&mut self) {
        let mut urls: Vec<String> = std::iter::once(&self.nats)
            .chain(&self.others)
            .map(Nats::url)
            .collect();
        let place = self.replicas.len() % urls.len();
        urls.rotate_left(place);
        let mut reader = Reader::from_pairs([
            ("DASHFLEET_NATS_URLS", urls.join(",")),
            (
                "DASHFLEET_KEYS",
                self.nats.keys("metrics").display().to_string(),
            ),
            ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("DASHFLEET_SHUTDOWN_MS", "5000".to_owned()),
            ("DASHFLEET_DATABASE_URL", self.database.url("df_metrics")),
            (
                "DASHFLEET_DATABASE_SYSTEM_URL",
                self.database.url("df_metrics_system"),
            ),
        ]);
        let config = Config {
            timing: self.timing,
            ..Config::read(&mut reader).unwrap()
        };
        let shutdown = Shutdown::new();
        self.replicas.push(shutdown.clone());
        tokio::spawn(async move { dashfleet_metrics::run(config, shutdown).await.unwrap() });
    }

    /// Stops all replicas, and waits until nobody answers.
    pub async fn metrics_stop(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.begin();
        }
        self.refuses(ProblemKind::Unavailable).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Waits until a machine that is nowhere is refused like this.
    async fn refuses(&self, kind: ProblemKind) {
        let nowhere = MachineGet::from(MachineId::new());
        testkit::eventually(&format!("metrics refuses: {kind:?}"), PATIENCE, || async {
            let refused = self.ask(&nowhere).await.err()?;
            (refused.kind == kind).then_some(())
        })
        .await;
    }

    /// Waits until the service answers and has its partitions.
    pub async fn settle(&self) {
        self.refuses(ProblemKind::NotFound).await;
        testkit::eventually("partitions are there", PATIENCE, || async {
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'metrics.samples'::regclass",
            )
            .fetch_one(self.database.pools(SERVICE).system())
            .await
            .ok()?;
            (count > 0).then_some(())
        })
        .await;
    }

    pub fn grant(&self, org: OrgId, role: Role) -> String {
        self.sign(&self.claims(org, role))
    }

    pub fn claims(&self, org: OrgId, role: Role) -> Grant {
        let now = Timestamp::now().millis() / 1_000;
        Grant {
            iss: ISSUER.into(),
            org,
            sub: Uuid::now_v7(),
            kind: PrincipalKind::User,
            role,
            scopes: role.scopes(),
            aud: vec![SERVICE.into()],
            credential: CredentialId::new(),
            iat: now,
            exp: now + 300,
        }
    }

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
        self.ask_in(self.org, request).await
    }

    pub async fn ask_in<C: Call>(&self, org: OrgId, request: &C) -> Result<C::Reply, Problem> {
        self.gateway
            .gateway_call(
                request,
                Some(&self.grant(org, Role::Viewer)),
                Duration::from_secs(5),
            )
            .await
    }

    pub async fn machine(&self, id: MachineId) -> Machine {
        self.ask(&MachineGet::from(id)).await.unwrap()
    }

    pub async fn list(&self, request: MachineList) -> MachinePage {
        self.ask(&request).await.unwrap()
    }

    pub async fn becomes(&self, id: MachineId, status: MachineStatus) -> Machine {
        testkit::eventually(
            &format!("the machine becomes {status}"),
            PATIENCE,
            || async {
                let machine = self.ask(&MachineGet::from(id)).await.ok()?;
                (machine.status == status).then_some(machine)
            },
        )
        .await
    }

    /// A machine that identity knows. Whether metrics does is another matter.
    pub fn enroll(&self, hostname: &str, labels: &[(&str, &str)]) -> Enrolled {
        self.enroll_in(self.org, hostname, labels)
    }

    pub fn enroll_in(&self, org: OrgId, hostname: &str, labels: &[(&str, &str)]) -> Enrolled {
        let key = KeyPair::new_user();
        let machine = MachineId::new();
        let labels: Labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut identity = self.identity.lock().unwrap();
        identity.change += 1;
        let change = identity.change;
        identity.machines.push(MachineRecord {
            change,
            org,
            machine_id: machine,
            hostname: hostname.into(),
            display_name: None,
            notes: None,
            public_key: key.public_key(),
            transport: Default::default(),
            legacy: None,
            labels,
            inventory: Default::default(),
            enrolled_at: Timestamp::now(),
            revoked_at: None,
            quarantined_at: None,
            quarantine_reason: None,
            releases: 0,
        });
        Enrolled {
            org,
            machine,
            key: Arc::new(key),
        }
    }

    /// Changes a machine as identity would.
    pub fn machine_changes(&self, machine: MachineId, how: impl FnOnce(&mut MachineRecord)) {
        let mut identity = self.identity.lock().unwrap();
        identity.change += 1;
        let change = identity.change;
        let record = identity
            .machines
            .iter_mut()
            .find(|record| record.machine_id == machine)
            .unwrap();
        record.change = change;
        how(record);
    }

    /// Waits until the mirror has everything that identity has.
    pub async fn mirrored(&self) {
        let pools = self.database.pools(SERVICE);
        testkit::eventually("the mirror has caught up", PATIENCE, || async {
            let position: Option<i64> =
                sqlx::query_scalar("SELECT position FROM metrics.cursors WHERE name = 'mirror'")
                    .fetch_optional(pools.system())
                    .await
                    .unwrap();
            (position.unwrap_or(0) == self.identity.lock().unwrap().change).then_some(())
        })
        .await;
    }

    /// Hears what is published, as the gateway may.
    pub async fn hear(&self, pattern: &str) -> Heard {
        let heard = self.gateway.subscribe(pattern).await.unwrap();
        self.gateway.flush().await.unwrap();
        Heard(heard)
    }

    /// Waits until every event so far is published: whoever hears from now on hears only what is new.
    pub async fn told(&self) {
        testkit::eventually("the outbox is empty", PATIENCE, || async {
            (self.count("SELECT count(*) FROM metrics.outbox").await == 0).then_some(())
        })
        .await;
    }

    pub async fn connect(&self, enrolled: &Enrolled) -> Agent {
        Agent::connect(self, enrolled).await
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.database.pools(SERVICE).system())
            .await
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for replica in &self.replicas {
            replica.begin();
        }
    }
}

/// Published messages.
pub struct Heard(Subscription);

impl Heard {
    pub async fn event(&mut self) -> Event {
        let message = tokio::time::timeout(PATIENCE, self.0.next())
            .await
            .expect("an event")
            .unwrap();
        serde_json::from_slice::<Envelope<Event>>(&message.payload)
            .unwrap()
            .body
    }

    pub async fn live(&mut self) -> (String, contract::live::Live) {
        let message = tokio::time::timeout(PATIENCE, self.0.next())
            .await
            .expect("a live message")
            .unwrap();
        (
            message.subject,
            serde_json::from_slice(&message.payload).unwrap(),
        )
    }

    pub async fn silence(&mut self, time: Duration) {
        if let Ok(Some(message)) = tokio::time::timeout(time, self.0.next()).await {
            panic!(
                "{}: {}",
                message.subject,
                String::from_utf8_lossy(&message.payload)
            );
        }
    }
}

/// A machine that identity knows.
#[derive(Clone)]
pub struct Enrolled {
    pub org: OrgId,
    pub machine: MachineId,
    pub key: Arc<KeyPair>,
}

/// An agent's connection.
pub struct Agent {
    pub bus: Bus,
    pub org: OrgId,
    pub machine: MachineId,
}

impl Agent {
    pub async fn connect(world: &World, enrolled: &Enrolled) -> Self {
        Self::connect_to(vec![world.nats.url()], enrolled).await
    }

    /// To the first of these servers that is there.
    pub async fn connect_to(urls: Vec<String>, enrolled: &Enrolled) -> Self {
        let mut config = BusConfig::agent(
            urls,
            None,
            enrolled.key.seed().unwrap(),
            enrolled.org,
            enrolled.machine,
        );
        config.reconnect_max = Duration::from_millis(300);
        let bus = Bus::connect(config).await.unwrap();
        assert!(bus.wait_connected(PATIENCE).await);
        Self {
            bus,
            org: enrolled.org,
            machine: enrolled.machine,
        }
    }

    pub async fn say<B: serde::Serialize, R: serde::de::DeserializeOwned>(
        &self,
        word: Up,
        body: &B,
    ) -> Result<R, Problem> {
        self.bus
            .agent_request(
                subject::up(self.org, self.machine, word),
                self.org,
                body,
                Duration::from_secs(8),
            )
            .await
    }

    pub async fn samples(&self, samples: Vec<Sample>) -> Result<SampleAnswer, Problem> {
        self.say(Up::Metrics, &SampleBatch { samples }).await
    }

    /// Closes the connection and waits until it is closed.
    pub async fn leave(self) {
        self.bus.drain().await;
    }
}

/// A sample with these percents.
pub fn sample(at: Timestamp, cpu: f64, memory: f64, disk: f64) -> Sample {
    let part = |percent: f64| (percent * 1_000_000.0) as u64;
    Sample {
        at,
        cpu: CpuSample {
            percent: cpu,
            cores: vec![cpu, cpu],
        },
        load: None,
        memory: MemorySample {
            total: 100_000_000,
            used: part(memory),
            available: 100_000_000 - part(memory),
            percent: memory,
        },
        swap: SwapSample { total: 0, used: 0 },
        disks: vec![
            DiskSample {
                mount: "/boot".into(),
                file_system: "ext4".into(),
                total: 100_000_000,
                used: 1,
                percent: 0.1,
                ..DiskSample::default()
            },
            DiskSample {
                mount: "/".into(),
                file_system: "ext4".into(),
                total: 100_000_000,
                used: part(disk),
                percent: disk,
                ..DiskSample::default()
            },
        ],
        networks: vec![NetworkSample {
            name: "eth0".into(),
            received: 12.5,
            sent: 0.25,
            ..NetworkSample::default()
        }],
        uptime_seconds: 4_242,
        processes: 99,
        temperatures: Vec::new(),
        batteries: Vec::new(),
        top_processes: None,
        faults: Vec::new(),
    }
}

/// So many seconds from now; negative is ago.
pub fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now().plus(chrono::Duration::seconds(seconds))
}

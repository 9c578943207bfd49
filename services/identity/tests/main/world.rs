//! A world of one test: its own bus, its own database, one organisation, and replicas of identity.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bus::{Bus, BusConfig};
use contract::agent::Inventory;
use contract::identity::{
    ActionKeysPut, Challenge, Enroll, Enrolled, Exchange, Exchanged, InvitationAccept, Login,
    MachineRevoke, Me, MemberInvite, OrganizationCreate, Switch, Tokens, enrollment_message,
};
use contract::{Call, Problem, ProblemKind};
use dashfleet_identity::config::{BootstrapConfig, Config};
use domain::access::Role;
use domain::{MachineId, OrgId, UserId};
use nkeys::KeyPair;
use runtime::{Reader, Shutdown};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Nats, Postgres, TestDatabase, eventually, folder::free_port};
use tokio::task::JoinHandle;

pub const EMAIL: &str = "owner@example.org";
pub const PASSWORD: &str = "correct horse battery";
pub const API_KEY: &str = "dfk_0123456789abcdefghijklmnop";
pub const TOKEN: &str = "dfe_0123456789abcdefghijklmnop";
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub nats: Nats,
    pub database: TestDatabase,
    pub org: OrgId,
    pub gateway: Bus,
    pub action: Bus,
}

/// One process of identity, in this one.
pub struct Replica {
    pub admin: String,
    pub shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Replica {
    /// Starts one that reaches its database by these URLs.
    pub fn launch(nats: &Nats, url: String, system_url: String) -> Self {
        Self::launch_with(nats, url, system_url, &[])
    }

    /// Starts one with more variables.
    pub fn launch_with(
        nats: &Nats,
        url: String,
        system_url: String,
        more: &[(&'static str, String)],
    ) -> Self {
        let admin = format!("127.0.0.1:{}", free_port());
        let base = [
            ("DASHFLEET_NATS_URLS", nats.url()),
            (
                "DASHFLEET_KEYS",
                nats.keys("identity").display().to_string(),
            ),
            ("DASHFLEET_ADMIN_ADDR", admin.clone()),
            ("DASHFLEET_DATABASE_URL", url),
            ("DASHFLEET_DATABASE_SYSTEM_URL", system_url),
            ("DASHFLEET_AGENT_NATS_URLS", nats.url()),
        ];
        let mut reader = Reader::from_pairs(base.into_iter().chain(more.iter().cloned()));
        let config = Config::read(&mut reader).unwrap();
        let shutdown = Shutdown::new();
        let end = shutdown.clone();
        let task = tokio::spawn(async move {
            dashfleet_identity::run(config, end).await.unwrap();
        });
        Self {
            admin,
            shutdown,
            task,
        }
    }

    pub async fn ready(&self) {
        eventually("identity is ready", PATIENCE, || async {
            (self.admin_get("/readyz").await? == "ready\n").then_some(())
        })
        .await;
    }

    /// The body of a page of the admin endpoint; absent while there is none.
    pub async fn admin_get(&self, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.admin).await.ok()?;
        let question = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
    }

    pub async fn stop(self) {
        self.shutdown.begin();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

impl World {
    /// A world with one replica, ready, and action's keys put.
    pub async fn start() -> (Self, Replica) {
        let world = Self::empty().await;
        let replica = world.replica().await;
        world.put_action_keys().await;
        (world, replica)
    }

    /// A world in which nothing runs yet but bus and database.
    pub async fn empty() -> Self {
        let nats = Nats::start().await;
        let database = Postgres::shared().await.database().await;
        let org = bootstrap(&database, "default", EMAIL, Some(API_KEY), Some(TOKEN))
            .await
            .unwrap();
        let (gateway, action) = (nats.bus("gateway").await, nats.bus("action").await);
        Self {
            nats,
            database,
            org,
            gateway,
            action,
        }
    }

    pub fn launch(&self) -> Replica {
        let (url, system_url) = self.database_urls();
        Replica::launch(&self.nats, url, system_url)
    }

    pub fn database_urls(&self) -> (String, String) {
        (
            self.database.url("df_identity"),
            self.database.url("df_identity_system"),
        )
    }

    pub async fn replica(&self) -> Replica {
        let replica = self.launch();
        replica.ready().await;
        replica
    }

    pub async fn put_action_keys(&self) -> Vec<String> {
        let keys = vec![
            KeyPair::new_user().public_key(),
            KeyPair::new_user().public_key(),
        ];
        let put = ActionKeysPut { keys: keys.clone() };
        self.action
            .service_call(&put, None, PATIENCE)
            .await
            .unwrap();
        keys
    }

    /// Asks as the gateway does, without a grant.
    pub async fn ask<C: Call>(&self, request: C) -> Result<C::Reply, Problem> {
        self.gateway.gateway_call(&request, None, PATIENCE).await
    }

    /// Asks as the gateway does for this credential.
    pub async fn ask_as<C: Call>(&self, credential: &str, request: C) -> Result<C::Reply, Problem> {
        let grant = self.exchange(credential).await?.grant;
        self.gateway
            .gateway_call(&request, Some(&grant), PATIENCE)
            .await
    }

    pub async fn exchange(&self, credential: &str) -> Result<Exchanged, Problem> {
        self.ask(Exchange {
            credential: credential.to_owned(),
        })
        .await
    }

    pub async fn login(
        &self,
        email: &str,
        password: &str,
        address: &str,
    ) -> Result<Tokens, Problem> {
        self.ask(login(email, password, address)).await
    }

    /// The access token of the OWNER of the bootstrap job, who is platform administrator.
    pub async fn owner(&self) -> String {
        let tokens = self.login(EMAIL, PASSWORD, "a").await.unwrap();
        tokens.access_token
    }

    /// Invites somebody new, who joins; the person's id and access token.
    pub async fn join(&self, by: &str, email: &str, role: Role) -> (UserId, String) {
        let invite = MemberInvite {
            email: email.to_owned(),
            role,
        };
        let link = self.ask_as(by, invite).await.unwrap().link.unwrap();
        let tokens = self.accept(&link, PASSWORD).await.unwrap();
        let me = self.ask_as(&tokens.access_token, Me {}).await.unwrap();
        (UserId(me.id), tokens.access_token)
    }

    /// Opens an invitation's link.
    pub async fn accept(&self, link: &str, password: &str) -> Result<Tokens, Problem> {
        self.ask(InvitationAccept {
            token: secret_of(link),
            name: None,
            password: password.to_owned(),
            address: "a".into(),
            user_agent: String::new(),
        })
        .await
    }

    /// Another organisation of the platform administrator's: its id, and an access token there.
    pub async fn organization(&self, name: &str) -> (OrgId, String) {
        let owner = self.owner().await;
        let create = OrganizationCreate {
            name: name.to_owned(),
            idempotency_key: None,
        };
        let org = self.ask_as(&owner, create).await.unwrap().id;
        let switch = Switch {
            organization_id: org,
            address: String::new(),
            user_agent: String::new(),
        };
        let tokens = self.ask_as(&owner, switch).await.unwrap();
        (org, tokens.access_token)
    }

    pub async fn enroll(&self, key: &KeyPair, token: &str) -> Result<Enrolled, Problem> {
        let request = self.enroll_request(key, token).await;
        self.ask(request).await
    }

    /// A good request, for tests to spoil.
    pub async fn enroll_request(&self, key: &KeyPair, token: &str) -> Enroll {
        let challenge = self.ask(Challenge {}).await.unwrap().challenge;
        let mut request = Enroll {
            token: token.to_owned(),
            challenge,
            public_key: key.public_key(),
            signature: String::new(),
            hostname: "web-1".into(),
            inventory: Inventory {
                os: "Debian".into(),
                ..Inventory::default()
            },
            labels: [("env".to_owned(), "prod".to_owned())].into(),
        };
        sign(&mut request, key);
        request
    }

    /// A new machine: its key and what enrolment said.
    pub async fn machine(&self) -> (KeyPair, Enrolled) {
        let key = KeyPair::new_user();
        let enrolled = self.enroll(&key, TOKEN).await.unwrap();
        (key, enrolled)
    }

    pub async fn revoke(&self, machine: MachineId) -> Result<(), Problem> {
        self.ask_as(
            API_KEY,
            MachineRevoke {
                machine_id: machine,
            },
        )
        .await
        .map(|_| ())
    }

    /// Changes what no call can: an hour that passed, a token that somebody revoked.
    pub async fn alter(&self, sql: &str) -> u64 {
        let url = Postgres::shared().await.admin_url(&self.database.name);
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut admin)
            .await
            .unwrap();
        done.rows_affected()
    }

    /// One number that no call tells.
    pub async fn count(&self, sql: &str) -> i64 {
        let url = Postgres::shared().await.admin_url(&self.database.name);
        let mut admin = PgConnection::connect(&url).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut admin)
            .await
            .unwrap()
    }
}

/// The class of a refusal.
pub fn kind<T>(result: Result<T, Problem>) -> ProblemKind {
    result.err().unwrap().kind
}

/// What is behind `#` in a link.
pub fn secret_of(link: &str) -> String {
    link.split_once('#').unwrap().1.to_owned()
}

pub fn login(email: &str, password: &str, address: &str) -> Login {
    Login {
        email: email.to_owned(),
        password: password.to_owned(),
        organization_id: None,
        address: address.to_owned(),
        user_agent: "test/1".into(),
    }
}

pub fn sign(request: &mut Enroll, key: &KeyPair) {
    let message = enrollment_message(&request.challenge, &request.token, &request.public_key);
    request.signature = STANDARD.encode(key.sign(&message).unwrap());
}

/// Connects as an agent does.
pub async fn agent(nats: &Nats, key: &KeyPair, enrolled: &Enrolled) -> Bus {
    let (org, machine) = (enrolled.organization_id, enrolled.machine_id);
    let seed = key.seed().unwrap();
    Bus::connect(BusConfig::agent(vec![nats.url()], None, seed, org, machine))
        .await
        .unwrap()
}

pub async fn bootstrap(
    database: &TestDatabase,
    organization: &str,
    email: &str,
    api_key: Option<&str>,
    token: Option<&str>,
) -> Result<OrgId, String> {
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_DATABASE_URL", database.url("df_identity")),
        (
            "DASHFLEET_DATABASE_SYSTEM_URL",
            database.url("df_identity_system"),
        ),
        ("DASHFLEET_BOOTSTRAP_ORGANIZATION", organization.to_owned()),
        ("DASHFLEET_BOOTSTRAP_ADMIN_EMAIL", email.to_owned()),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", PASSWORD.to_owned()),
        (
            "DASHFLEET_BOOTSTRAP_API_KEY",
            api_key.unwrap_or_default().to_owned(),
        ),
        (
            "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN",
            token.unwrap_or_default().to_owned(),
        ),
    ]);
    let config = BootstrapConfig::read(&mut reader).map_err(|error| error.to_string())?;
    dashfleet_identity::app::bootstrap::ensure(&config)
        .await
        .map_err(|error| error.to_string())
}

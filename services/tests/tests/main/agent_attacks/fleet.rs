//! The services in this process, on a bus and a database of their own, with machines of two organisations.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bus::Bus;
use contract::action::{Action, ActionCreate, ActionGet};
use contract::identity::{
    Challenge, Enroll, Enrolled, Exchange, MachineRevoke, enrollment_message,
};
use contract::subject::{Up, act, agent_inbox, up};
use contract::{Call, Envelope, Problem};
use dashfleet_identity::config::BootstrapConfig;
use domain::{ActionId, JournalId, MachineId, OrgId, SessionId};
use nkeys::KeyPair;
use runtime::{Reader, Shutdown};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Nats, Postgres, TestDatabase, eventually};
use uuid::Uuid;

use crate::main::hostile::Hostile;

const PATIENCE: Duration = Duration::from_secs(15);

/// An organisation, and what its owner has.
pub struct Tenant {
    pub org: OrgId,
    api_key: String,
    token: String,
}

/// An enrolled machine, its key in the wrong hands.
pub struct Machine {
    pub org: OrgId,
    pub id: MachineId,
    pub key: KeyPair,
    pub action_keys: Vec<String>,
}

impl Machine {
    pub fn up(&self, word: Up) -> String {
        up(self.org, self.id, word)
    }

    pub fn act(&self, verb: contract::order::Verb) -> String {
        act(self.org, self.id, verb)
    }

    pub fn inbox(&self) -> String {
        agent_inbox(self.org, self.id)
    }

    /// A message of this machine's, as bytes.
    pub fn says<T: Serialize>(&self, body: &T) -> Vec<u8> {
        serde_json::to_vec(&Envelope::new(
            contract::agent::VERSION,
            Some(self.org),
            body,
        ))
        .unwrap()
    }
}

/// One life of an agent, as its `sync` shows it.
#[derive(Clone, Copy)]
pub struct Life {
    pub journal: JournalId,
    pub session: SessionId,
    pub entries: i64,
}

impl Life {
    pub fn request(&self, after_seq: i64) -> contract::order::SyncRequest {
        contract::order::SyncRequest {
            after_seq,
            journal_id: self.journal,
            entries: self.entries,
            head: format!("{:064x}", self.entries),
            session_id: self.session,
            boot_id: "boot".into(),
            nonce: Uuid::new_v4(),
            echo: None,
            keys: Vec::new(),
        }
    }
}

/// The running services.
pub struct Fleet {
    pub nats: Nats,
    pub ours: Tenant,
    pub theirs: Tenant,
    database: TestDatabase,
    gateway: Bus,
    shutdown: Shutdown,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn tenant(database: &TestDatabase, name: &str) -> Tenant {
    let secret = |kind: &str| format!("{kind}_{}", Uuid::new_v4().simple());
    let (api_key, token) = (secret("dfk"), secret("dfe"));
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_DATABASE_URL", database.url("df_identity")),
        (
            "DASHFLEET_DATABASE_SYSTEM_URL",
            database.url("df_identity_system"),
        ),
        ("DASHFLEET_BOOTSTRAP_ORGANIZATION", name.to_owned()),
        (
            "DASHFLEET_BOOTSTRAP_ADMIN_EMAIL",
            format!("owner@{name}.example"),
        ),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", secret("password")),
        ("DASHFLEET_BOOTSTRAP_API_KEY", api_key.clone()),
        ("DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN", token.clone()),
    ]);
    let config = BootstrapConfig::read(&mut reader).unwrap();
    let org = dashfleet_identity::app::bootstrap::ensure(&config)
        .await
        .unwrap();
    Tenant {
        org,
        api_key,
        token,
    }
}

fn reader(nats: &Nats, database: &TestDatabase, service: &str) -> Reader {
    Reader::from_pairs([
        ("DASHFLEET_NATS_URLS", nats.url()),
        ("DASHFLEET_KEYS", nats.keys(service).display().to_string()),
        ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        (
            "DASHFLEET_DATABASE_URL",
            database.url(&format!("df_{service}")),
        ),
        (
            "DASHFLEET_DATABASE_SYSTEM_URL",
            database.url(&format!("df_{service}_system")),
        ),
        ("DASHFLEET_AGENT_NATS_URLS", nats.url()),
    ])
}

impl Fleet {
    pub async fn start() -> Self {
        let nats = Nats::start().await;
        let database = Postgres::shared().await.database().await;
        let (ours, theirs) = (
            tenant(&database, "ours").await,
            tenant(&database, "theirs").await,
        );
        let shutdown = Shutdown::new();
        let identity =
            dashfleet_identity::config::Config::read(&mut reader(&nats, &database, "identity"))
                .unwrap();
        let action =
            dashfleet_action::Config::read(&mut reader(&nats, &database, "action")).unwrap();
        let metrics =
            dashfleet_metrics::Config::read(&mut reader(&nats, &database, "metrics")).unwrap();
        let end = shutdown.clone();
        tokio::spawn(async move { dashfleet_identity::run(identity, end).await.unwrap() });
        let end = shutdown.clone();
        tokio::spawn(async move { dashfleet_action::run(action, end).await.unwrap() });
        let end = shutdown.clone();
        tokio::spawn(async move { dashfleet_metrics::run(metrics, end).await.unwrap() });
        let gateway = nats.bus("gateway").await;
        Self {
            nats,
            ours,
            theirs,
            database,
            gateway,
            shutdown,
        }
    }

    /// Asks as the gateway does, with the owner's key; again while a service is still starting.
    pub async fn ask<C: Call + Clone>(
        &self,
        tenant: &Tenant,
        request: &C,
    ) -> Result<C::Reply, Problem> {
        let exchange = Exchange {
            credential: tenant.api_key.clone(),
        };
        eventually("the services answer", PATIENCE, || async {
            let grant = self
                .gateway
                .gateway_call(&exchange, None, PATIENCE)
                .await
                .ok()?
                .grant;
            let answer = self
                .gateway
                .gateway_call(request, Some(&grant), PATIENCE)
                .await;
            let away = answer
                .as_ref()
                .is_err_and(|problem| problem.kind == contract::ProblemKind::Unavailable);
            (!away).then_some(answer)
        })
        .await
    }

    pub async fn enroll(&self, tenant: &Tenant) -> Machine {
        let key = KeyPair::new_user();
        let enrolled: Enrolled = eventually("a machine enrols", PATIENCE, || async {
            let challenge = self
                .gateway
                .gateway_call(&Challenge {}, None, PATIENCE)
                .await
                .ok()?
                .challenge;
            let public_key = key.public_key();
            let message = enrollment_message(&challenge, &tenant.token, &public_key);
            let signature = STANDARD.encode(key.sign(&message).unwrap());
            let (token, hostname) = (tenant.token.clone(), "victim".to_owned());
            let request = Enroll {
                token,
                challenge,
                public_key,
                signature,
                hostname,
                inventory: Default::default(),
                labels: Default::default(),
            };
            self.gateway
                .gateway_call(&request, None, PATIENCE)
                .await
                .ok()
                .filter(|enrolled| !enrolled.action_keys.is_empty())
        })
        .await;
        Machine {
            org: enrolled.organization_id,
            id: enrolled.machine_id,
            key,
            action_keys: enrolled.action_keys,
        }
    }

    /// Connects with a machine's key. The first time may be before identity has seen the machine in its own table.
    pub async fn connect(&self, machine: &Machine) -> Hostile {
        let seed = machine.key.seed().unwrap();
        eventually("the machine's key is accepted", PATIENCE, || async {
            Hostile::with_seed(&self.nats.url(), &seed).await.ok()
        })
        .await
    }

    /// Connects with the key of a user of the permission table.
    pub async fn service(&self, user: &str) -> Hostile {
        Hostile::with_seed(&self.nats.url(), &self.nats.seed(user))
            .await
            .unwrap()
    }

    pub async fn revoke(&self, tenant: &Tenant, machine: &Machine) {
        self.ask(
            tenant,
            &MachineRevoke {
                machine_id: machine.id,
            },
        )
        .await
        .unwrap();
    }

    /// A new action for a machine that the action service knows.
    pub async fn action(&self, tenant: &Tenant, machine: &Machine) -> ActionId {
        let request = ActionCreate {
            machine_id: machine.id,
            kind: "message".into(),
            payload: json!({ "message": "hello" }),
            not_after: None,
            idempotent: false,
            idempotency_key: None,
            by_key_alone: false,
        };
        let created = eventually("action knows the machine", PATIENCE, || async {
            self.ask(tenant, &request).await.ok()
        });
        created.await.id
    }

    pub async fn get(&self, tenant: &Tenant, action: ActionId) -> Action {
        self.ask(tenant, &ActionGet { action_id: action })
            .await
            .unwrap()
    }

    /// One value that no call tells, as a service's system role.
    pub async fn look(&self, role: &str, sql: &str) -> Option<String> {
        let mut connection = PgConnection::connect(&self.database.url(role))
            .await
            .unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// Changes what no call can.
    pub async fn alter(&self, role: &str, sql: &str) {
        let mut connection = PgConnection::connect(&self.database.url(role))
            .await
            .unwrap();
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    /// Everything that one machine's key must not change: the other machines, what they were told, and who they are.
    pub async fn others(&self, machine: &Machine) -> Value {
        let not_mine = format!("<> '{}'", machine.id);
        let all = |columns: &str, table: &str, of: &str| {
            format!(
                "SELECT md5(string_agg(concat_ws('|', {columns}), E'\\n' ORDER BY org_id, {columns})) FROM {table} WHERE {of} {not_mine}"
            )
        };
        let action = "id, status, attempt, result, error, delivered_at, started_at, finished_at, cancel_requested_at, version";
        json!({
            "actions": self.look("df_action_system", &all(action, "action.actions", "machine_id")).await,
            "journals": self.look("df_action_system", &all("id, journal_id, journal_entries, session_id, quarantined_at, last_seq", "action.machines", "id")).await,
            "attempts": self.look("df_action_system", &format!("SELECT count(*)::text FROM action.attempts JOIN action.actions ON actions.org_id = attempts.org_id AND actions.id = attempts.action_id WHERE machine_id {not_mine}")).await,
            "machines": self.look("df_identity_system", &all("id, public_key, revoked_at, quarantined_at, change", "identity.machines", "id")).await,
            "samples": self.look("df_metrics_system", &all("machine_id, at, body", "metrics.samples", "machine_id")).await,
            "inventories": self.look("df_metrics_system", &all("id, hostname, inventory, stopping_reason", "metrics.machines", "id")).await,
        })
    }
}

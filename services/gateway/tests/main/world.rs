//! A gateway on its own bus, with stand-in owners behind it and a client before it.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Service};
use contract::event::Event;
use dashfleet_gateway::config::Config;
use dashfleet_gateway::{GatewayError, Patience, Running};
use domain::{CredentialId, Timestamp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use runtime::{Reader, Shutdown};
use serde_json::Value;
use testkit::{Folder, Nats, eventually, folder::free_port};
use uuid::Uuid;

use crate::standin::{Actions, Identity, Metrics, Scheduler};

pub const GOOD: &str = "dfk_good";

/// What a request got.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The paths that a refusal names.
    pub fn paths(&self) -> Vec<String> {
        let errors = self.json()["errors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        errors
            .iter()
            .map(|error| error["path"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Patience for tests.
pub fn patience() -> Patience {
    Patience {
        read: Duration::from_millis(800),
        write: Duration::from_millis(800),
        write_many: Duration::from_millis(1_200),
        linger: Duration::from_millis(100),
        ..Patience::default()
    }
}

pub struct World {
    pub nats: Nats,
    pub identity: Arc<Identity>,
    pub actions: Arc<Actions>,
    pub metrics: Arc<Metrics>,
    pub scheduler: Arc<Scheduler>,
    pub identity_bus: Bus,
    pub identity_service: Option<Service>,
    pub base: String,
    pub admin: String,
    pub client: reqwest::Client,
    pub shutdown: Shutdown,
    pub running: Option<Running>,
    services: Vec<Service>,
}

pub fn client() -> reqwest::Client {
    // Only the first call of the process installs it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

pub fn config(nats: &Nats, patience: Patience, extra: &[(&'static str, &str)]) -> Config {
    let base = [
        ("DASHFLEET_NATS_URLS", nats.url()),
        ("DASHFLEET_KEYS", nats.keys("gateway").display().to_string()),
        ("DASHFLEET_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("DASHFLEET_ADMIN_ADDR", format!("127.0.0.1:{}", free_port())),
        ("DASHFLEET_LOG", "warn,dashfleet_gateway=info".to_owned()),
        ("DASHFLEET_SHUTDOWN_MS", "3000".to_owned()),
    ];
    let pairs = base.into_iter().chain(
        extra
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    Config {
        patience,
        ..Config::read(&mut Reader::from_pairs(pairs)).unwrap()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(patience(), &[]).await
    }

    pub async fn with(patience: Patience, extra: &[(&'static str, &str)]) -> Self {
        let extra = extra
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Self::with_bus(patience, |_| extra).await
    }

    /// With variables that depend on the bus.
    pub async fn with_bus(
        patience: Patience,
        extra: impl FnOnce(&Nats) -> Vec<(&'static str, String)>,
    ) -> Self {
        let nats = Nats::start().await;
        let extra = extra(&nats);
        Box::pin(Self::build(nats, patience, extra)).await
    }

    async fn build(nats: Nats, patience: Patience, extra: Vec<(&'static str, String)>) -> Self {
        let (identity, actions, metrics, scheduler) = (
            Identity::new(),
            Arc::<Actions>::default(),
            Arc::<Metrics>::default(),
            Arc::<Scheduler>::default(),
        );
        let identity_bus = nats.bus("identity").await;
        let identity_service = identity.answer(&identity_bus).await;
        let jwks = identity.jwks();
        let services = vec![
            actions.answer(&nats.bus("action").await, &jwks).await,
            metrics.answer(&nats.bus("metrics").await, &jwks).await,
            scheduler.answer(&nats.bus("scheduler").await, &jwks).await,
        ];
        let extra: Vec<_> = extra
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let config = config(&nats, patience, &extra);
        let admin = format!("http://{}", config.service.admin_addr);
        let shutdown = Shutdown::new();
        let running = dashfleet_gateway::start(config, shutdown.clone())
            .await
            .unwrap();
        let world = Self {
            base: format!("http://{}", running.http_addr),
            nats,
            identity,
            actions,
            metrics,
            scheduler,
            identity_bus,
            identity_service: Some(identity_service),
            admin,
            client: client(),
            shutdown,
            running: Some(running),
            services,
        };
        world.ready().await;
        // A subscription that was sent is not yet one that the server has.
        eventually("all owners answer", Duration::from_secs(10), || async {
            (world.get_as("", "/api/status").await.json()["status"] == "OK").then_some(())
        })
        .await;
        world
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) {
        eventually("the gateway is ready", Duration::from_secs(10), || async {
            let reply = self
                .client
                .get(format!("{}/readyz", self.admin))
                .send()
                .await
                .ok()?;
            reply.status().is_success().then_some(())
        })
        .await;
    }

    /// A request with the good key unless a header says otherwise.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: impl Into<reqwest::Body>,
    ) -> Reply {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut map = HeaderMap::new();
        map.insert(
            "authorization",
            HeaderValue::from_str(&format!("Bearer {GOOD}")).unwrap(),
        );
        map.insert("content-type", HeaderValue::from_static("application/json"));
        let mut named: Vec<HeaderName> = Vec::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            if !named.contains(&name) {
                map.remove(&name);
                named.push(name.clone());
            }
            if !value.is_empty() || name == "idempotency-key" {
                map.append(name, HeaderValue::from_bytes(value).unwrap());
            }
        }
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .headers(map)
            .body(body);
        let reply = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        Reply {
            status,
            headers,
            text: reply.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// With this credential instead of the good key; none when it is empty.
    pub async fn get_as(&self, credential: &str, path: &str) -> Reply {
        let value = if credential.is_empty() {
            String::new()
        } else {
            format!("Bearer {credential}")
        };
        self.send("GET", path, &[("authorization", value.as_bytes())], "")
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string()).await
    }

    /// An event as identity's relay publishes it.
    pub async fn event(&self, noun: &str, verb: &str, data: Value) {
        let event = Event {
            id: Uuid::now_v7(),
            org: self.identity.org,
            noun: noun.to_owned(),
            verb: verb.to_owned(),
            subject_id: Uuid::now_v7(),
            version: 1,
            at: Timestamp::now(),
            data,
        };
        self.identity_bus.publish_event(&event).await.unwrap();
    }

    pub async fn revoked(&self, credential: CredentialId) {
        self.event(
            "key",
            "revoked",
            serde_json::json!({ "credential": credential }),
        )
        .await;
    }

    /// Identity stops answering.
    pub async fn identity_leaves(&mut self) {
        self.identity_service.take().unwrap().stop().await;
    }

    /// The other owners start anew, with the keys that identity has now.
    pub async fn owners_start_anew(&mut self) {
        for service in self.services.drain(..) {
            service.stop().await;
        }
        let jwks = self.identity.jwks();
        self.services.push(
            self.actions
                .answer(&self.nats.bus("action").await, &jwks)
                .await,
        );
        self.services.push(
            self.metrics
                .answer(&self.nats.bus("metrics").await, &jwks)
                .await,
        );
        self.services.push(
            self.scheduler
                .answer(&self.nats.bus("scheduler").await, &jwks)
                .await,
        );
    }

    /// Ends the gateway and says how that went.
    pub async fn end(&mut self) -> Result<(), GatewayError> {
        self.shutdown.begin();
        self.running.take().unwrap().finished().await
    }
}

/// Another gateway on the same bus.
pub struct Replica {
    pub base: String,
    shutdown: Shutdown,
    running: Running,
}

impl Replica {
    pub async fn start(world: &World, extra: &[(&'static str, &str)]) -> Self {
        let shutdown = Shutdown::new();
        let config = config(&world.nats, patience(), extra);
        let running = dashfleet_gateway::start(config, shutdown.clone())
            .await
            .unwrap();
        let base = format!("http://{}", running.http_addr);
        let status = format!("{base}/api/status");
        eventually("the replica answers", Duration::from_secs(10), || async {
            let reply = client().get(&status).send().await.ok()?;
            (reply.json::<serde_json::Value>().await.ok()?["status"] == "OK").then_some(())
        })
        .await;
        Self {
            base,
            shutdown,
            running,
        }
    }

    pub async fn end(self) {
        self.shutdown.begin();
        self.running.finished().await.unwrap();
    }
}

/// A folder with nothing in it, for a gateway that must not start.
pub fn empty_folder() -> Folder {
    Folder::new("gateway")
}

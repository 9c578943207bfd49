//! Connecting: at once if the server is there, else for ever in the background.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerError};
use bytes::Bytes;
use contract::live::Live;
use domain::OrgId;
use futures::StreamExt;
use tokio::sync::watch;

use crate::error::BusError;
use crate::servers::Servers;
use crate::subscription::Subscription;

/// The first reconnection comes within this time.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);
/// Later ones wait a random time up to this (full jitter), so that a fleet does not return as one.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// How long one attempt to connect may take; the server's own limit is 20 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(22);
/// How long a message to oneself may take before another is sent.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
/// How long [`Bus::drain`] waits for what is under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the bus, and as whom.
#[derive(Clone)]
pub struct BusConfig {
    /// Servers, tried in this order, and from the first again after each connection.
    pub urls: Vec<String>,
    /// PEM file of the authority that signed the servers' certificates; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The nkey seed.
    pub seed: String,
    /// Name of the connection, for the server's monitoring.
    pub name: String,
    /// Prefix of the inbox; the server's permissions fix it.
    pub inbox: String,
    /// The caller's token in `df.svc.<caller>.…`; empty for agents.
    pub service: String,
    /// How many messages a subscription holds before it drops; small for agents.
    pub capacity: usize,
    /// How often to ping the server.
    pub ping_interval: Duration,
    /// How long to wait between attempts; services return sooner than a fleet.
    pub reconnect_max: Duration,
    /// Whether the servers that a server names are tried too. An agent may stand where those cannot be reached: it keeps
    /// to the list of its enrolment.
    pub discovers: bool,
}

impl BusConfig {
    /// The connection of a service.
    #[must_use]
    pub fn service(urls: Vec<String>, ca: Option<PathBuf>, seed: String, service: &str) -> Self {
        Self {
            urls,
            ca,
            seed,
            name: service.to_owned(),
            inbox: contract::subject::service_inbox(service),
            service: service.to_owned(),
            capacity: 65_536,
            ping_interval: Duration::from_secs(6),
            reconnect_max: Duration::from_secs(2),
            discovers: true,
        }
    }

    /// The connection of a worker: its inbox and its name as a caller are its pool's.
    #[must_use]
    pub fn worker(urls: Vec<String>, ca: Option<PathBuf>, seed: String, pool: &str) -> Self {
        let caller = contract::work::caller(pool);
        Self {
            inbox: contract::work::inbox(pool),
            ..Self::service(urls, ca, seed, &caller)
        }
    }

    /// The connection of an agent.
    #[must_use]
    pub fn agent(
        urls: Vec<String>,
        ca: Option<PathBuf>,
        seed: String,
        org: OrgId,
        machine: domain::MachineId,
    ) -> Self {
        Self {
            urls,
            ca,
            seed,
            name: contract::subject::agent_user(org, machine),
            inbox: contract::subject::agent_inbox(org, machine),
            service: String::new(),
            capacity: 256,
            ping_interval: Duration::from_secs(6),
            reconnect_max: RECONNECT_MAX,
            discovers: false,
        }
    }
}

impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConfig")
            .field("urls", &self.urls)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How the connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusState {
    /// Not connected; trying.
    Connecting,
    /// Connected, for the n-th time.
    Connected(u64),
    /// The server refused this key; still trying.
    Refused(String),
    /// Closed for good.
    Closed,
}

/// A connection to the bus. Clones share it.
#[derive(Clone)]
pub struct Bus {
    pub(crate) client: Client,
    pub(crate) jetstream: async_nats::jetstream::Context,
    pub(crate) service: Arc<str>,
    state: watch::Receiver<BusState>,
    turn: Arc<Servers>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

fn follow(event: &Event, connections: &AtomicU64, turn: &Servers, state: &watch::Sender<BusState>) {
    match event {
        Event::Connected => {
            let n = connections.fetch_add(1, Ordering::Relaxed) + 1;
            let server = turn.chosen().unwrap_or_default();
            tracing::info!(connection = n, server, "connected to the bus");
            state.send_replace(BusState::Connected(n));
        }
        Event::Disconnected => {
            tracing::warn!("disconnected from the bus");
            // What the server said last (a refusal) is worth more than "connecting".
            state.send_if_modified(|state| {
                let connected = matches!(state, BusState::Connected(_));
                if connected {
                    *state = BusState::Connecting;
                }
                connected
            });
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            refused(state, "authorization violation");
        }
        Event::ServerError(error) => {
            let text = error.to_string();
            tracing::warn!(error = %text, "the bus server complains");
            refused(state, &text);
        }
        // Refused at the door: while it connects, the client says so as its own error.
        Event::ClientError(error) => refused(state, &error.to_string()),
        Event::Closed => {
            state.send_replace(BusState::Closed);
        }
        Event::SlowConsumer(subscription) => {
            tracing::warn!(
                subscription,
                "messages are dropped: they come faster than they are taken"
            );
        }
        other => tracing::debug!(event = %other, "bus"),
    }
}

fn refused(state: &watch::Sender<BusState>, text: &str) {
    let lower = text.to_lowercase();
    if lower.contains("authorization violation") || lower.contains("authentication") {
        state.send_replace(BusState::Refused(text.to_owned()));
    }
}

impl Bus {
    /// Begins to connect and returns: the connection comes, and comes back, in the background.
    ///
    /// # Errors
    /// [`BusError::Config`] when a URL, the seed or the CA file cannot be used.
    pub async fn connect(config: BusConfig) -> Result<Self, BusError> {
        // The client panics on a bad seed only when it connects; say it here and now instead.
        nkeys::KeyPair::from_seed(config.seed.trim())
            .map_err(|error| BusError::Config(format!("nkey seed: {error}")))?;
        let (sender, state) = watch::channel(BusState::Connecting);
        let connections = Arc::new(AtomicU64::new(0));
        let (servers, reconnect_max) = (config.urls.len(), config.reconnect_max);
        let turn = Arc::new(Servers::default());
        let (chooses, followed) = (turn.clone(), turn.clone());
        let mut options = ConnectOptions::with_nkey(config.seed.trim().to_owned())
            .name(&config.name)
            .custom_inbox_prefix(&config.inbox)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(config.ping_interval)
            .subscription_capacity(config.capacity)
            .client_capacity(config.capacity.clamp(64, 8_192))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .retain_servers_order()
            .reconnect_to_server_callback(move |pool, _| {
                let turn = chooses.clone();
                async move { turn.choose(pool).await }
            })
            .reconnect_delay_callback(move |attempts| {
                reconnect_delay(attempts, servers, reconnect_max)
            })
            .event_callback(move |event| {
                follow(&event, &connections, &followed, &sender);
                std::future::ready(())
            });
        if !config.discovers {
            options = options.ignore_discovered_servers();
        }
        if let Some(ca) = &config.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let urls: Vec<async_nats::ServerAddr> = config
            .urls
            .iter()
            .map(|url| {
                url.parse()
                    .map_err(|error| BusError::Config(format!("bus URL `{url}`: {error}")))
            })
            .collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(BusError::Config("no bus URL is given".into()));
        }
        let client = options
            .connect(urls)
            .await
            .map_err(|error| BusError::Config(error.to_string()))?;
        turn.follow(client.statistics());
        let mut jetstream = async_nats::jetstream::new(client.clone());
        jetstream.set_timeout(Duration::from_secs(5));
        Ok(Self {
            client,
            jetstream,
            service: config.service.into(),
            state,
            turn,
        })
    }

    /// How the connection stands, and how it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BusState> {
        self.state.clone()
    }

    /// Whether the connection stands now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), BusState::Connected(_))
    }

    /// The URL of the server that is connected, as the configuration says it.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        self.turn.chosen().filter(|_| self.is_connected())
    }

    /// Waits until the connection stands; at most `timeout`.
    pub async fn wait_connected(&self, timeout: Duration) -> bool {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| matches!(state, BusState::Connected(_)));
        tokio::time::timeout(timeout, connected)
            .await
            .is_ok_and(|state| state.is_ok())
    }

    /// Publishes bytes, with the current trace context. Nobody says whether they arrive.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed.
    pub async fn publish(&self, subject: String, payload: Vec<u8>) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        crate::trace::inject(&mut headers);
        let sent = if headers.is_empty() {
            self.client.publish(subject, Bytes::from(payload)).await
        } else {
            self.client
                .publish_with_headers(subject, headers, Bytes::from(payload))
                .await
        };
        sent.map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Tells those who look on now. Lossy by intent.
    ///
    /// # Errors
    /// [`BusError`] when it cannot be encoded or the client is closed.
    pub async fn publish_live(
        &self,
        org: OrgId,
        noun: &str,
        id: &str,
        live: &Live,
    ) -> Result<(), BusError> {
        let payload =
            serde_json::to_vec(live).map_err(|error| BusError::Malformed(error.to_string()))?;
        self.publish(contract::subject::live(org, noun, id), payload)
            .await
    }

    /// Hears a pattern.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        let inner = self
            .client
            .subscribe(pattern.to_owned())
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        Ok(Subscription::new(pattern, inner))
    }

    /// Hears a pattern as one of a group: each message comes to one of them.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed.
    pub async fn subscribe_group(
        &self,
        pattern: &str,
        group: &str,
    ) -> Result<Subscription, BusError> {
        let inner = self
            .client
            .queue_subscribe(pattern.to_owned(), group.to_owned())
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        Ok(Subscription::new(pattern, inner))
    }

    /// Waits until what was published and subscribed is written to the connection. (Whether the server has taken it:
    /// [`Bus::settled`].)
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client
            .flush()
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Returns once the server has taken every subscription made so far: on one connection, a message to oneself
    /// comes after them. While the bus is away it waits. For services, which may publish to their own inbox.
    pub async fn settled(&self) {
        loop {
            match tokio::time::timeout(SETTLE_PATIENCE, self.message_to_oneself()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the bus is not settled");
                    tokio::time::sleep(SETTLE_PATIENCE).await;
                }
                Err(_) => {}
            }
        }
    }

    async fn message_to_oneself(&self) -> Result<(), BusError> {
        let subject = self.client.new_inbox();
        let mut echo = self.subscribe(&subject).await?;
        self.publish(subject, Vec::new()).await?;
        echo.next().await;
        Ok(())
    }

    /// Lets go of the bus: what is under way ends, then the connection closes.
    pub async fn drain(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "drain");
            return;
        }
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| *state == BusState::Closed);
        if tokio::time::timeout(DRAIN_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the bus did not drain in time");
        }
    }
}

/// How long to wait before an attempt, of which each goes to the next server. The first round has one pause, before its
/// first attempt: who has lost one server is with the next one before anybody misses it.
fn reconnect_delay(attempts: usize, servers: usize, max: Duration) -> Duration {
    if attempts <= 1 {
        return random_up_to(RECONNECT_FIRST.min(max));
    }
    if attempts <= servers {
        return Duration::ZERO;
    }
    let later = attempts - servers.max(1);
    let doubled = RECONNECT_FIRST.saturating_mul(1u32 << (later + 1).min(10));
    random_up_to(doubled.min(max))
}

/// A random part of a duration. A UUID's random bits are random enough to spread a fleet.
fn random_up_to(max: Duration) -> Duration {
    let bits = (uuid::Uuid::new_v4().as_u128() & 0xffff_ffff) as u32;
    max.mul_f64(f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnection_is_spread_and_bounded() {
        for attempts in 0..200 {
            for servers in 0..4 {
                assert!(reconnect_delay(attempts, servers, RECONNECT_MAX) <= RECONNECT_MAX);
            }
        }
        assert!((0..50).all(|_| reconnect_delay(1, 3, RECONNECT_MAX) <= RECONNECT_FIRST));
        let longest = (0..50).map(|_| reconnect_delay(4, 3, RECONNECT_MAX)).max();
        assert!(longest > Some(RECONNECT_FIRST), "the second round waits");
    }

    #[test]
    fn a_worker_speaks_and_hears_as_its_pool() {
        let config = BusConfig::worker(Vec::new(), None, String::new(), "default");
        let user = contract::permissions::user(&config.service).expect("a user of the table");
        let inbox = format!("{}.>", config.inbox);
        assert_eq!(user.subscribe, [inbox.as_str()]);
    }

    #[test]
    fn who_loses_one_server_tries_the_others_without_a_pause() {
        for attempts in 2..=3 {
            assert_eq!(reconnect_delay(attempts, 3, RECONNECT_MAX), Duration::ZERO);
        }
    }
}

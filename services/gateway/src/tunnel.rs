//! Tunnels: an agent whose network lets out nothing but HTTPS reaches the bus through the gateway's own port. What comes
//! after the handshake of a WebSocket goes to nats-server and back byte for byte: the gateway reads nothing of it, so
//! whoever comes this way is let in, held to its permissions, seen and sent away by the server as on any other way.
//! Tunnels are bounded in number (all, and those of one neighbour) and pace, end when nothing moves, and at the gateway's
//! end one after another.

mod bytes;
mod neighbours;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::{OnUpgrade, Upgraded};
use runtime::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::neighbours::{Neighbours, Place};
pub use self::upstream::{Answer, Handshake, Upstream};
use crate::config::Patience;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::limits::Limits;
use crate::limits::class::Class;
use crate::metrics::{Metrics, TunnelOutcome};

/// When whoever finds no room should come again: agents come back by themselves, each at its own time.
const FULL_RETRY: Duration = Duration::from_secs(10);

/// What the configuration says about tunnels.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// `DASHFLEET_NATS_WEBSOCKET_URLS`: the servers' ports for WebSocket; none, and there are no tunnels.
    pub upstreams: Vec<Upstream>,
    /// `DASHFLEET_NATS_TUNNELS`: how many there may be at once.
    pub at_once: usize,
    /// `DASHFLEET_NATS_TUNNELS_PER_ADDRESS`: how many of them one address may hold.
    pub per_address: usize,
}

/// All tunnels of this gateway. Clones share them.
#[derive(Clone)]
pub struct Tunnels(Arc<Shared>);

struct Shared {
    config: TunnelConfig,
    patience: Patience,
    /// How long the gateway's end may take.
    limit: Duration,
    room: Arc<Semaphore>,
    neighbours: Arc<Neighbours>,
    limits: Arc<Limits>,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// A tunnel whose handshake is done at the far side.
pub struct Opened {
    /// What the server answered, for the client.
    pub answer: Answer,
    stream: upstream::Connection,
    _room: OwnedSemaphorePermit,
    _place: Place,
}

impl Tunnels {
    /// No tunnels yet. `limit` is how long the gateway's end may take.
    #[must_use]
    pub fn new(
        config: TunnelConfig,
        patience: Patience,
        limits: Arc<Limits>,
        metrics: Metrics,
        shutdown: Shutdown,
        limit: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            room: Arc::new(Semaphore::new(config.at_once)),
            neighbours: Neighbours::new(config.per_address),
            limits,
            config,
            patience,
            limit,
            metrics,
            shutdown,
        }))
    }

    /// Whether this gateway is a way to the bus at all.
    ///
    /// # Errors
    /// [`Refused`] when it is not.
    pub fn offered(&self) -> Result<(), Refused> {
        if self.0.config.upstreams.is_empty() {
            let detail =
                "this gateway is no way to the bus: DASHFLEET_NATS_WEBSOCKET_URLS is not set";
            return Err(Refused::new(Kind::NotFound, detail));
        }
        Ok(())
    }

    /// Opens the far half of a tunnel for whoever is at this address.
    ///
    /// # Errors
    /// [`Refused`]: too many, too fast, or no server answers.
    pub async fn open(&self, handshake: &Handshake, address: IpAddr) -> Result<Opened, Refused> {
        let opened = self.try_open(handshake, address).await;
        self.0.metrics.tunnel(match &opened {
            Ok(_) => TunnelOutcome::Opened,
            Err((outcome, _)) => *outcome,
        });
        opened.map_err(|(_, refused)| refused)
    }

    async fn try_open(
        &self,
        handshake: &Handshake,
        address: IpAddr,
    ) -> Result<Opened, (TunnelOutcome, Refused)> {
        let shared = &self.0;
        let later = |detail: String| Refused {
            retry_after: Some(FULL_RETRY),
            ..Refused::new(Kind::Unavailable, detail)
        };
        if shared.shutdown.has_begun() {
            let detail = "this gateway is ending; another one takes the connection".to_owned();
            return Err((TunnelOutcome::Full, later(detail)));
        }
        let taken = shared.limits.take_of_address(Class::Tunnels, address);
        taken
            .admit()
            .map_err(|refused| (TunnelOutcome::Limited, refused))?;
        let Ok(room) = shared.room.clone().try_acquire_owned() else {
            let at_once = shared.config.at_once;
            let detail =
                format!("this gateway holds {at_once} connections to the bus and takes no more");
            return Err((TunnelOutcome::Full, later(detail)));
        };
        let Some(place) = shared.neighbours.take(address) else {
            let most = shared.config.per_address;
            let detail = format!(
                "this address holds {most} connections to the bus and may have no more of them"
            );
            let refused = Refused::rate_limited(detail, FULL_RETRY);
            return Err((TunnelOutcome::Limited, refused));
        };
        let dialled = upstream::dial(&shared.config.upstreams, handshake, address);
        let patience = shared.patience.tunnel_handshake;
        let reason = match tokio::time::timeout(patience, dialled).await {
            Ok(Ok((stream, answer))) => {
                return Ok(Opened {
                    answer,
                    stream,
                    _room: room,
                    _place: place,
                });
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer within {} ms", patience.as_millis()),
        };
        tracing::warn!(reason, "the bus takes no connection by WebSocket");
        let detail = "the bus does not take the connection now".to_owned();
        Err((TunnelOutcome::Unavailable, later(detail)))
    }

    /// Carries bytes once the client has its answer, until one side ends, nothing moves, or the gateway ends.
    pub fn carry(&self, opened: Opened, client: OnUpgrade) {
        let tunnels = self.clone();
        self.0.shutdown.spawn(async move {
            let patience = tunnels.0.patience.tunnel_handshake;
            match tokio::time::timeout(patience, client).await {
                Ok(Ok(client)) => tunnels.carried(opened, client).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client of a tunnel went away"),
                Err(_) => tracing::debug!("a client of a tunnel did not take the answer"),
            }
        });
    }

    async fn carried(&self, opened: Opened, client: Upgraded) {
        let shared = &self.0;
        shared.metrics.tunnels.inc();
        let Opened {
            answer,
            stream,
            _room,
            _place,
        } = opened;
        let end = async {
            shared.shutdown.begun().await;
            // Not all at once: each comes back with a handshake, at another gateway.
            tokio::time::sleep(shared.patience.linger + part_of(shared.limit / 2)).await;
        };
        let ended = bytes::carry(client, stream, answer.early, shared.patience, end).await;
        tracing::debug!(?ended, "a tunnel ended");
        shared.metrics.tunnels.dec();
    }
}

/// A random part of a duration. A UUID's random bits are random enough to spread agents.
fn part_of(whole: Duration) -> Duration {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    whole.mul_f64(f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

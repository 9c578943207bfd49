//! This crate is the HTTP edge: it turns a credential into a grant and HTTP into requests on the bus. It has no database
//! and no signing key, and decides nothing that an owner decides.
//!
//! Rooms: [`server`] accepts, [`edge`] is what every request meets, [`routes`] what the router knows, [`caller`] and
//! [`credentials`] who calls, [`inbound`] the operations, [`json`] bodies in and out, checked by [`shape`] against the
//! [`document`]; [`limits`] how fast anybody may go, over all replicas; [`browser`] what browsers are told and may do;
//! [`tunnel`] the agents' way to the bus; [`body`] how large and slow bodies may be, [`address`] whose
//! request it is on the network, [`visit`] what one request carries along, [`owners`] the way to those who decide,
//! [`refusal`] and [`error`] how they refuse; [`config`], [`metrics`].

pub mod address;
pub mod body;
pub mod browser;
pub mod caller;
pub mod config;
pub mod credentials;
pub mod document;
pub mod edge;
pub mod error;
pub mod inbound;
pub mod json;
pub mod limits;
pub mod metrics;
pub mod owners;
pub mod refusal;
pub mod routes;
pub mod server;
pub mod shape;
pub mod tunnel;
pub mod visit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusConfig};
use poem::EndpointExt;
use runtime::admin::{self, Readiness};
use runtime::{Shutdown, keys, telemetry};
use tokio::net::TcpListener;

pub use crate::config::{Config, Patience};
use crate::credentials::{Credentials, revocations};
use crate::edge::Edge;
pub use crate::error::GatewayError;
use crate::inbound::status::Installation;
use crate::limits::{Limits, gossip};
use crate::metrics::Metrics;
use crate::owners::Owners;
use crate::tunnel::Tunnels;
use crate::visit::House;

/// The name on the bus, and of the telemetry.
pub const SERVICE: &str = "gateway";

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port that the system chose when the configuration said 0.
    pub http_addr: SocketAddr,
    bus: Bus,
    shutdown: Shutdown,
    limit: Duration,
}

impl Running {
    /// Waits until the shutdown begins and what is under way has ended.
    ///
    /// # Errors
    /// [`GatewayError::Unfinished`] when it did not end in time.
    pub async fn finished(self) -> Result<(), GatewayError> {
        self.shutdown.begun().await;
        let ended = self.shutdown.finish(self.limit).await;
        self.shutdown.close(self.bus.drain()).await;
        if ended {
            Ok(())
        } else {
            Err(GatewayError::Unfinished)
        }
    }
}

/// Runs the gateway until the shutdown.
///
/// # Errors
/// [`GatewayError`] when it cannot start or does not end in time.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), GatewayError> {
    start(config, shutdown).await?.finished().await
}

/// Starts the gateway: it listens when this returns. The bus may come later.
///
/// # Errors
/// [`GatewayError`] when the configuration cannot be used or an address cannot be listened on.
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, GatewayError> {
    telemetry::begin(SERVICE, &config.service.telemetry)?;
    let seed = keys::read_seed(&config.service.keys, "nats.nk")?;
    let urls = config.service.nats_urls.clone();
    let bus = Bus::connect(BusConfig::service(
        urls,
        config.service.nats_ca.clone(),
        seed.clone(),
        SERVICE,
    ))
    .await?;
    let metrics = Metrics::new()?;
    let listen = |address: &str| {
        let address = address.to_owned();
        move |source| GatewayError::Listen { address, source }
    };
    let listener = TcpListener::bind(&config.http_addr)
        .await
        .map_err(listen(&config.http_addr))?;
    let http_addr = listener.local_addr().map_err(listen(&config.http_addr))?;

    // All replicas have the same key for the bus, so the names that they make with it are the same too.
    let limits = Limits::new(config.amounts, &seed, &metrics);
    gossip::start(&bus, &limits, &shutdown);
    let credentials = Credentials::new(&bus, &config, &limits, &metrics);
    revocations::listen(&bus, &credentials, &shutdown);
    credentials.attempts().run(&shutdown);
    let owners = Owners::new(&bus, &credentials, &config.patience);
    let installation = Installation::new(owners.clone(), &config.patience);
    let mut pages = inbound::pages::all();
    pages.extend(inbound::install::all(&owners, config.install.clone()));
    let limit = config.service.shutdown;
    let tunnels = Tunnels::new(
        config.tunnels.clone(),
        config.patience,
        limits.clone(),
        metrics.clone(),
        shutdown.clone(),
        limit,
    );
    let mut unversioned = inbound::legacy::all(&owners, &limits);
    unversioned.extend(inbound::nats::all(&tunnels));
    let (router, routes) = routes::build(
        inbound::api(&owners, &credentials, installation, &shutdown),
        pages,
        unversioned,
    );
    let house = House {
        routes: Arc::new(routes),
        bodies: Arc::new(body::Bodies::new(config.patience.body)),
        browsers: Arc::new(config.browsers.clone()),
    };
    let app = Edge::new(
        router.data(credentials),
        house,
        config.trusted_proxies.clone(),
        limits,
        metrics.clone(),
    );

    let admin_addr = &config.service.admin_addr;
    let registry = metrics.registry.clone();
    admin::serve(admin_addr, registry, readiness(&bus), &shutdown)
        .await
        .map_err(listen(admin_addr))?;
    shutdown.spawn(server::serve(
        listener,
        app,
        config.patience,
        metrics.connections.clone(),
        shutdown.clone(),
        limit,
    ));
    tracing::info!(%http_addr, "the gateway listens");
    let limit = config.end_max();
    Ok(Running {
        http_addr,
        bus,
        shutdown,
        limit,
    })
}

/// Ready means connected: the owners may be away, and then say so themselves.
fn readiness(bus: &Bus) -> Readiness {
    let bus = bus.clone();
    Arc::new(move || (!bus.is_connected()).then(|| "not connected to the bus".to_owned()))
}

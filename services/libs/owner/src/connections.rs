//! A service's connections, by its configuration, and whether they stand.

use std::sync::atomic::{AtomicBool, Ordering};

use bus::{Bus, BusConfig, BusError};
use database::{DatabaseError, Pools};
use runtime::config::{DatabaseConfig, ServiceConfig};

/// Begins to connect to the bus, as the user whose seed this is.
///
/// # Errors
/// [`BusError::Config`] when a configured value cannot be used.
pub async fn bus(name: &str, config: &ServiceConfig, seed: &str) -> Result<Bus, BusError> {
    let (urls, ca) = (config.nats_urls.clone(), config.nats_ca.clone());
    Bus::connect(BusConfig::service(urls, ca, seed.to_owned(), name)).await
}

/// The connections of both roles to the database, which may be away.
///
/// # Errors
/// [`DatabaseError::Bug`] when a URL cannot be parsed.
pub fn pools(name: &str, config: &DatabaseConfig) -> Result<Pools, DatabaseError> {
    Pools::connect(name, &config.url, &config.system_url, config.connections)
}

/// Which of them is missing, or whether the bus has not taken the subscriptions; `None` when nothing is.
pub async fn missing(bus: &Bus, pools: &Pools, answering: &AtomicBool) -> Option<String> {
    if !bus.is_connected() {
        return Some("the bus is away".into());
    }
    if !answering.load(Ordering::Relaxed) {
        return Some("the bus has not taken the subscriptions yet".into());
    }
    if !pools.answers().await {
        return Some("the database is away".into());
    }
    None
}

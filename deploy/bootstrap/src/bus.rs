//! Streams and durable consumers.

use std::time::Duration;

use ::bus::{Bus, BusConfig, BusError};
use runtime::Reader;

use crate::error::BootstrapError;

/// How long the bus server may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes every stream and consumer of the contract, and one for each pool of workers, as the bootstrap user.
///
/// # Errors
/// [`BootstrapError`].
pub async fn ensure(reader: &mut Reader) -> Result<(), BootstrapError> {
    let urls = reader.list("DASHFLEET_NATS_URLS")?;
    let ca = reader.path_optional("DASHFLEET_NATS_CA");
    let folder: std::path::PathBuf = reader.required("DASHFLEET_KEYS")?.into();
    let pools = crate::pools::read(reader)?;
    let replicas = reader.or("DASHFLEET_NATS_REPLICAS", 1)?;
    let seed = runtime::keys::read_seed(&folder, "nats.nk")?;
    let bus = Bus::connect(BusConfig::service(urls, ca, seed, "bootstrap")).await?;
    if !bus.wait_connected(PATIENCE).await {
        return Err(BusError::Unavailable("no connection within a minute".into()).into());
    }
    bus.ensure_streams(replicas, &pools).await?;
    bus.drain().await;
    Ok(())
}

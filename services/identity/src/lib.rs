//! This crate is identity: organisations, people, credentials, machine identities; it issues grants and answers
//! the NATS auth callout. Any number of replicas, no leader.
//!
//! Rooms: [`config`] what it reads, [`inbound`] what it is asked (decode, one method of [`app`], encode), [`app`]
//! decisions and transactions, [`store`] its SQL, [`error`], [`metrics`]. This file is the wiring.

pub mod app;
pub mod config;
pub mod error;
pub mod inbound;
pub mod metrics;
pub mod store;

use std::sync::Arc;

use bus::Bus;
use bus::callout::CalloutKeys;
use bus::system::SystemBus;
use database::GroupCommit;
use futures::future::join_all;
use owner::Outboxes;
use prometheus::Registry;
use runtime::{Shutdown, admin};

use crate::app::{App, Parts};
use crate::config::{AccountConfig, BootstrapConfig, Config};
use crate::error::IdentityError;
use crate::metrics::Metrics;
use crate::store::audit::append::Appends;

/// Its name on the bus, and its schema.
const SCHEMA: &str = "identity";

/// The service: starts everything and returns when the shutdown is done. NATS and PostgreSQL may be away.
///
/// # Errors
/// [`IdentityError`] when a configured value cannot be used or the admin address cannot be bound.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), IdentityError> {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let pools = owner::pools(SCHEMA, &config.database)?;
    let (service, keys) = (&config.service, &config.keys);
    let bus = owner::bus(SCHEMA, service, &keys.nats).await?;
    let auth = owner::bus(SCHEMA, service, &keys.nats_auth).await?;
    let system = SystemBus::new(owner::bus(SCHEMA, service, &keys.nats_sys).await?);
    let outboxes = Outboxes::new(SCHEMA, &bus, &pools);
    let (audit, committer) = GroupCommit::start(&pools, Appends);
    let committing = tokio::spawn(committer);
    let app = App::new(Parts {
        pools: pools.clone(),
        outboxes: outboxes.clone(),
        audit,
        audit_retention_days: config.audit_retention_days,
        bus: bus.clone(),
        system: system.clone(),
        metrics,
        shutdown: shutdown.clone(),
        jwt_seeds: config.keys.jwt.clone(),
        agent_nats_urls: config.agent_nats_urls.clone(),
        agent_nats_ca: config.agent_nats_ca.clone(),
        public_url: config.public_url.clone(),
        mail: config.mail.clone(),
    })
    .await?;

    let buses = [bus.clone(), auth.clone(), system.bus().clone()];
    let readiness = {
        let (app, buses) = (app.clone(), buses.clone());
        Arc::new(move || not_ready(&app, &buses))
    };
    admin::serve(&config.service.admin_addr, registry, readiness, &shutdown).await?;

    shutdown.spawn_until_begun(app.clone().feed_run());
    shutdown.spawn_until_begun(app.clone().sweep_run());
    shutdown.spawn_until_begun(app.clone().cleanup_run());
    shutdown.spawn_until_begun(app.clone().mail_run());
    shutdown.spawn_until_begun(inbound::doorbell::run(bus.clone(), app.clone()));
    let callout_keys = CalloutKeys {
        issuer: config.keys.callout_issuer()?,
        xkey: config.keys.callout_xkey()?,
    };
    let deciding = inbound::callout::run(auth.clone(), callout_keys, app.clone());
    shutdown.spawn_until_begun(deciding);
    shutdown.spawn_until_begun(outboxes.clone().events_run());
    // Its own entries do not go over the bus.
    let (audit_relay, handing) = (app.audit_relay.clone(), app.clone());
    let relaying = audit_relay.run(pools.system().clone(), SCHEMA, move |rows| {
        let app = handing.clone();
        async move { app.audit_hand(rows).await }
    });
    shutdown.spawn_until_begun(relaying);
    shutdown.spawn_until_begun(app.clone().audit_retention_run());
    shutdown.spawn_until_begun(outboxes.clone().denials_run());
    let service = Box::pin(inbound::serve(&bus, &app)).await?;
    let (subscribed, ready) = (bus.clone(), app.clone());
    shutdown.spawn_until_begun(async move {
        subscribed.settled().await;
        ready.set_answering();
    });

    shutdown.begun().await;
    let close = async {
        tokio::join!(join_all(buses.iter().map(Bus::drain)), pools.close());
    };
    let (limit, last) = (config.service.shutdown, outboxes.denials_flush());
    shutdown.end(limit, service.stop(), last, close).await;
    committing.abort();
    Ok(())
}

/// The one-shot command `bootstrap`: ensures installation, organisation, OWNER, key and token; prints one JSON line.
///
/// # Errors
/// [`IdentityError`] when the database is away or a secret belongs to another organisation.
pub async fn bootstrap(config: BootstrapConfig) -> Result<(), IdentityError> {
    let org = app::bootstrap::ensure(&config).await?;
    println!("{}", serde_json::json!({ "organizationId": org }));
    Ok(())
}

/// The one-shot command `password-reset ADDRESS`: prints a link by which that person sets a new password.
///
/// # Errors
/// [`IdentityError`] when the database is away or there is no such person.
pub async fn password_reset(config: AccountConfig) -> Result<(), IdentityError> {
    let link = app::rescue::password_reset(&config).await?;
    println!("{link}");
    Ok(())
}

/// The one-shot command `platform-admin ADDRESS`: that person administers the installation from now on.
///
/// # Errors
/// [`IdentityError`] when the database is away or there is no such person.
pub async fn platform_admin(config: AccountConfig) -> Result<(), IdentityError> {
    app::rescue::platform_admin(&config).await
}

fn not_ready(app: &App, buses: &[Bus]) -> Option<String> {
    if !buses.iter().all(Bus::is_connected) {
        return Some("the bus is not connected".into());
    }
    app.not_ready()
}

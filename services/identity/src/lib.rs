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

use bus::callout::CalloutKeys;
use bus::system::SystemBus;
use bus::{Bus, BusConfig};
use contract::event::Event;
use database::outbox::OutboxRow;
use database::{GroupCommit, Pools, Relay};
use futures::future::join_all;
use prometheus::Registry;
use runtime::{Shutdown, admin, telemetry};

use crate::app::{App, Parts};
use crate::config::{AccountConfig, BootstrapConfig, Config};
use crate::error::IdentityError;
use crate::metrics::Metrics;
use crate::store::audit::append::Appends;

/// The schema whose outbox the relay publishes.
const SCHEMA: &str = "identity";

/// The service as a process: telemetry, signals, [`run`].
///
/// # Errors
/// As [`run`].
pub async fn main_run(config: Config) -> Result<(), IdentityError> {
    telemetry::begin("identity", &config.service.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let end = run(config, shutdown).await;
    telemetry::end().await;
    end
}

/// The service: starts everything and returns when the shutdown is done. NATS and PostgreSQL may be away.
///
/// # Errors
/// [`IdentityError`] when a configured value cannot be used or the admin address cannot be bound.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), IdentityError> {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let database = &config.database;
    let pools = Pools::connect(
        "identity",
        &database.url,
        &database.system_url,
        database.connections,
    )?;
    let connect = |seed: &str| {
        let service = &config.service;
        let (urls, ca) = (service.nats_urls.clone(), service.nats_ca.clone());
        Bus::connect(BusConfig::service(urls, ca, seed.to_owned(), "identity"))
    };
    let bus = connect(&config.keys.nats).await?;
    let auth = connect(&config.keys.nats_auth).await?;
    let system = SystemBus::new(connect(&config.keys.nats_sys).await?);
    let relay = Relay::new();
    let (audit, committer) = GroupCommit::start(&pools, Appends);
    let committing = tokio::spawn(committer);
    let app = App::new(Parts {
        pools: pools.clone(),
        relay: relay.clone(),
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

    until_shutdown(&shutdown, app.clone().feed_run());
    until_shutdown(&shutdown, app.clone().sweep_run());
    until_shutdown(&shutdown, app.clone().cleanup_run());
    until_shutdown(&shutdown, app.clone().mail_run());
    until_shutdown(&shutdown, inbound::doorbell::run(bus.clone(), app.clone()));
    let callout_keys = CalloutKeys {
        issuer: config.keys.callout_issuer()?,
        xkey: config.keys.callout_xkey()?,
    };
    until_shutdown(
        &shutdown,
        inbound::callout::run(auth.clone(), callout_keys, app.clone()),
    );
    let publisher = bus.clone();
    let relaying = relay.run(pools.system().clone(), SCHEMA, move |row| {
        publish(publisher.clone(), row)
    });
    until_shutdown(&shutdown, relaying);
    let (handing, noting) = (app.clone(), app.clone());
    let relaying = app
        .audit_relay
        .clone()
        .run(pools.system().clone(), SCHEMA, move |rows| {
            let app = handing.clone();
            async move { app.audit_hand(rows).await }
        });
    until_shutdown(&shutdown, relaying);
    until_shutdown(&shutdown, app.clone().audit_retention_run());
    let noting = app.denials.clone().run(move |entries| {
        let app = noting.clone();
        async move { app.denials_write(entries).await }
    });
    until_shutdown(&shutdown, noting);
    let service = inbound::serve(&bus, &app).await?;
    let (subscribed, ready) = (bus.clone(), app.clone());
    until_shutdown(&shutdown, async move {
        subscribed.settled().await;
        ready.set_answering();
    });

    shutdown.begun().await;
    let stop = async {
        service.stop().await;
        app.denials
            .flush(|entries| app.denials_write(entries))
            .await;
    };
    let close = async {
        join_all(buses.iter().map(Bus::drain)).await;
        pools.close().await;
    };
    shutdown.end(config.service.shutdown, stop, close).await;
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

fn until_shutdown(shutdown: &Shutdown, task: impl Future<Output = ()> + Send + 'static) {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = end.begun() => {}
            () = task => {}
        }
    });
}

async fn publish(bus: Bus, row: OutboxRow) -> Result<(), String> {
    let event = Event {
        id: row.id,
        org: row.org,
        noun: row.noun,
        verb: row.verb,
        subject_id: row.subject_id,
        version: row.version,
        at: row.at,
        data: row.data,
    };
    bus.publish_event(&event)
        .await
        .map_err(|error| error.to_string())
}

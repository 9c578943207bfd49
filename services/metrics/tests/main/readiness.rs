//! Readiness: the service starts while its neighbours are away, and becomes ready by itself.

use dashfleet_metrics::app::readiness;
use dashfleet_metrics::metrics::Metrics;
use dashfleet_metrics::{App, Timing};
use database::Relay;

use crate::main::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_missing_and_becomes_ready() {
    let world = World::without_metrics(Timing::default()).await;
    world.identity.lock().unwrap().dumb = true;
    let (bus, system) = (
        world.nats.bus("metrics").await,
        bus::system::SystemBus::new(world.nats.bus("metrics-sys").await),
    );
    let metrics = std::sync::Arc::new(Metrics::new().unwrap());
    let (app, _committers) = App::new(
        world.database.pools("metrics"),
        bus,
        system,
        Relay::new(),
        metrics,
        Timing::default(),
    );
    assert_eq!(
        app.readiness.missing().unwrap(),
        "waiting for the database, identity's machines, its subscriptions"
    );
    app.readiness.answering();
    let database = tokio::spawn(readiness::run(app.clone()));
    let mirror = tokio::spawn(dashfleet_metrics::app::mirror::run(app.clone()));
    testkit::eventually("only identity is missing", PATIENCE, || async {
        (app.readiness.missing()? == "waiting for identity's machines").then_some(())
    })
    .await;
    world.identity.lock().unwrap().dumb = false;
    testkit::eventually("it is ready", PATIENCE, || async {
        app.readiness.missing().is_none().then_some(())
    })
    .await;
    database.abort();
    mirror.abort();
}

//! The end: it comes within its time, whatever is away.

use std::time::{Duration, Instant};

use contract::metrics::SERVICE;
use dashfleet_metrics::{Config, Timing};
use runtime::{Reader, Shutdown};

use crate::main::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_ends_in_its_time_while_the_bus_is_away() {
    let world = World::without_metrics(Timing::default()).await;
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_NATS_URLS", world.nats.url()),
        (
            "DASHFLEET_KEYS",
            world.nats.keys(SERVICE).display().to_string(),
        ),
        ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("DASHFLEET_SHUTDOWN_MS", "2000".to_owned()),
        ("DASHFLEET_DATABASE_URL", world.database.url("df_metrics")),
        (
            "DASHFLEET_DATABASE_SYSTEM_URL",
            world.database.url("df_metrics_system"),
        ),
    ]);
    let config = Config::read(&mut reader).unwrap();
    let shutdown = Shutdown::new();
    let running = tokio::spawn(dashfleet_metrics::run(config, shutdown.clone()));
    world.settle().await;
    world.nats.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    shutdown.begin();
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await;
    ended.expect("an end").unwrap().unwrap();
    // The two seconds, two for connections to close (the bus's cannot), and a little.
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

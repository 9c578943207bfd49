//! Pools: a worker has the seed of its own, or does not start.

use dashfleet_worker::Config;
use runtime::{Reader, Shutdown};
use testkit::Folder;

#[tokio::test]
async fn a_worker_without_its_pools_seed_says_what_to_do() {
    let keys = Folder::new("worker");
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_NATS_URLS", "nats://127.0.0.1:1".to_owned()),
        ("DASHFLEET_KEYS", keys.path().display().to_string()),
        ("DASHFLEET_WORKER_POOL", "gpu".to_owned()),
    ]);
    let config = Config::read(&mut reader).unwrap();
    let refused = dashfleet_worker::run(config, Shutdown::new()).await;
    let said = refused.unwrap_err().to_string();
    for word in [
        "DASHFLEET_KEYS",
        "nats-gpu.nk",
        "DASHFLEET_SCHEDULER_POOLS",
        "dashfleet-bootstrap keys",
    ] {
        assert!(said.contains(word), "{said}");
    }
}

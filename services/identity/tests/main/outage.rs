//! What works while NATS or PostgreSQL is away, and that everything comes back by itself.

use std::time::{Duration, Instant};

use contract::ProblemKind;
use contract::identity::JwksGet;
use nkeys::KeyPair;
use testkit::eventually;

use crate::proxy::Proxy;
use crate::raw_agent::RawAgent;
use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, Replica, TOKEN, World};

async fn wired(world: &World) -> (Proxy, Replica) {
    let (url, system_url) = world.database_urls();
    let proxy = Proxy::to(&url).await;
    let replica = Replica::launch(&world.nats, proxy.through(&url), proxy.through(&system_url));
    (proxy, replica)
}

/// Ready, and a second later: the pool tries a connection first that was not used for that long, so that no request
/// meets one that died.
async fn whole_again(replica: &Replica) {
    replica.ready().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
}

#[tokio::test]
async fn a_database_outage_keeps_no_known_machine_out() {
    let world = World::empty().await;
    let (wire, replica) = wired(&world).await;
    replica.ready().await;
    world.put_action_keys().await;
    let (key, _) = world.machine().await;
    let (revoked_key, revoked) = world.machine().await;
    world.revoke(revoked.machine_id).await.unwrap();
    wire.cut();
    eventually("readyz says it", PATIENCE, || async {
        replica
            .admin_get("/readyz")
            .await
            .filter(|text| text.contains("database"))
    })
    .await;
    for _ in 0..5 {
        assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
    }
    assert!(RawAgent::connect(&world.nats, &revoked_key).await.is_err());
    // Nobody waits for a database that is away: strangers would take the places of the known.
    let begun = Instant::now();
    assert!(
        RawAgent::connect(&world.nats, &KeyPair::new_user())
            .await
            .is_err()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert!(world.ask(JwksGet {}).await.is_ok());
    for refused in [
        world.exchange(API_KEY).await.err(),
        world.login(EMAIL, PASSWORD, "a").await.err(),
        world.enroll(&KeyPair::new_user(), TOKEN).await.err(),
    ] {
        let refused = refused.unwrap();
        assert_eq!(refused.kind, ProblemKind::Unavailable, "{refused}");
        assert!(refused.retry_after_ms.is_some());
    }
    wire.mend();
    whole_again(&replica).await;
    assert!(world.exchange(API_KEY).await.is_ok());
    assert!(world.login(EMAIL, PASSWORD, "a").await.is_ok());
    assert!(world.enroll(&KeyPair::new_user(), TOKEN).await.is_ok());
}

#[tokio::test]
async fn an_outage_does_not_count_as_a_failed_login() {
    let world = World::empty().await;
    let (wire, replica) = wired(&world).await;
    replica.ready().await;
    wire.cut();
    // Twice as many as may fail in a minute, but never that many under way at once.
    for _ in 0..2 {
        let logins = (0..9).map(|_| world.login(EMAIL, PASSWORD, "a"));
        for refused in futures::future::join_all(logins).await {
            assert_eq!(refused.err().unwrap().kind, ProblemKind::Unavailable);
        }
    }
    wire.mend();
    whole_again(&replica).await;
    assert!(world.login(EMAIL, PASSWORD, "a").await.is_ok());
}

#[tokio::test]
async fn it_starts_before_its_bus_and_its_database_and_lets_nobody_in_until_it_knows_the_keys() {
    let mut world = World::empty().await;
    let first = world.replica().await;
    world.put_action_keys().await;
    let (key, _) = world.machine().await;
    first.stop().await;
    world.nats.kill();
    let (url, _) = world.database_urls();
    let wire = Proxy::to(&url).await;
    wire.cut();
    let system_url = wire.through(&world.database.url("df_identity_system"));
    let replica = Replica::launch(&world.nats, wire.through(&url), system_url);
    eventually("readyz says it", PATIENCE, || async {
        replica
            .admin_get("/readyz")
            .await
            .filter(|text| text.contains("bus"))
    })
    .await;
    world.nats.launch_again();
    eventually("readyz says it", PATIENCE, || async {
        replica
            .admin_get("/readyz")
            .await
            .filter(|text| text.contains("database"))
    })
    .await;
    let early = RawAgent::connect(&world.nats, &key);
    let early = tokio::time::timeout(Duration::from_secs(2), early).await;
    assert!(!matches!(early, Ok(Ok(_))), "the keys are not known");
    wire.mend();
    replica.ready().await;
    assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
    assert_eq!(replica.admin_get("/healthz").await.as_deref(), Some("ok\n"));
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_keys_yet_refuses_nobody() {
    let (world, _ready) = World::start().await;
    let (key, _) = world.machine().await;
    let (wire, beginning) = {
        let (url, system_url) = world.database_urls();
        let wire = Proxy::to(&url).await;
        wire.cut();
        let (url, system_url) = (wire.through(&url), wire.through(&system_url));
        (wire, Replica::launch(&world.nats, url, system_url))
    };
    eventually("it is on the bus", PATIENCE, || async {
        let why = beginning.admin_get("/readyz").await?;
        why.contains("database").then_some(())
    })
    .await;
    for attempt in 0..12 {
        let connected = RawAgent::connect(&world.nats, &key).await;
        assert!(connected.is_ok(), "attempt {attempt}");
    }
    wire.mend();
    beginning.ready().await;
    assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
}

#[tokio::test]
async fn events_wait_for_the_bus_and_leave_when_it_is_back() {
    let (mut world, replica) = World::start().await;
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    world.nats.kill();
    // Committed while nobody can hear of it.
    world
        .alter(
            "INSERT INTO identity.outbox (id, org_id, noun, verb, subject_id, version, at, data)
             SELECT gen_random_uuid(), org_id, 'machine', 'enrolled', gen_random_uuid(), 1, now(), '{}'
             FROM identity.organizations",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(world.count("SELECT count(*) FROM identity.outbox").await, 1);
    world.nats.launch_again();
    eventually("the outbox is empty", Duration::from_secs(30), || async {
        (world.count("SELECT count(*) FROM identity.outbox").await == 0).then_some(())
    })
    .await;
    replica.ready().await;
    eventually("identity answers", PATIENCE, || async {
        world.exchange(&tokens.access_token).await.ok()
    })
    .await;
}

//! Revocation: what is cut, how fast, and by whom.

use std::time::{Duration, Instant};

use contract::event::Event;
use contract::{Envelope, ProblemKind};
use domain::MachineId;
use futures::StreamExt;
use testkit::Nats;

use crate::raw_agent::RawAgent;
use crate::world::{PATIENCE, Replica, World, agent};

#[tokio::test]
async fn a_live_connection_is_gone_within_a_second_of_the_answer() {
    let (world, _replica) = World::start().await;
    // Others stay.
    let (other_key, other) = world.machine().await;
    let bystander = agent(&world.nats, &other_key, &other).await;
    assert!(bystander.wait_connected(PATIENCE).await);
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let (key, enrolled) = world.machine().await;
        // Two connections of one key: a copied folder.
        let one = RawAgent::connect(&world.nats, &key).await.unwrap();
        let two = RawAgent::connect(&world.nats, &key).await.unwrap();
        world.revoke(enrolled.machine_id).await.unwrap();
        let answered = Instant::now();
        tokio::join!(one.closed(), two.closed());
        slowest = slowest.max(answered.elapsed());
        assert!(RawAgent::connect(&world.nats, &key).await.is_err());
    }
    println!("slowest cut after the answer: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(bystander.is_connected());
}

#[tokio::test]
async fn revoking_is_told_once_and_can_be_repeated() {
    let (world, _replica) = World::start().await;
    let mut events = world
        .gateway
        .subscribe("df.evt.*.machine.revoked")
        .await
        .unwrap();
    world.gateway.flush().await.unwrap();
    let (_, enrolled) = world.machine().await;
    for _ in 0..3 {
        world.revoke(enrolled.machine_id).await.unwrap();
    }
    let message = tokio::time::timeout(PATIENCE, events.next())
        .await
        .unwrap()
        .unwrap();
    let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(event.body.subject_id, enrolled.machine_id.0);
    let change = "SELECT change FROM identity.machines WHERE revoked_at IS NOT NULL";
    assert_eq!(event.body.version, world.count(change).await);
    assert!(
        tokio::time::timeout(Duration::from_millis(700), events.next())
            .await
            .is_err()
    );
    let unknown = world.revoke(MachineId::new()).await.err().unwrap();
    assert_eq!(unknown.kind, ProblemKind::NotFound);
}

#[tokio::test]
async fn a_replica_that_hears_nothing_learns_by_its_poll_and_cuts_too() {
    let (world, _one) = World::start().await;
    // Another site: its own bus, the same database. No event reaches it.
    let far = Nats::start().await;
    let (url, system_url) = world.database_urls();
    let two = Replica::launch(&far, url, system_url);
    two.ready().await;
    let (key, enrolled) = world.machine().await;
    let connection = RawAgent::connect(&far, &key).await.unwrap();
    world.revoke(enrolled.machine_id).await.unwrap();
    let answered = Instant::now();
    tokio::time::timeout(PATIENCE, connection.closed())
        .await
        .unwrap();
    println!("cut by the poll after {:?}", answered.elapsed());
    assert!(
        answered.elapsed() < Duration::from_secs(3),
        "{:?}",
        answered.elapsed()
    );
    assert!(RawAgent::connect(&far, &key).await.is_err());
}

#[tokio::test]
async fn what_a_crash_left_connected_is_cut_when_a_process_begins() {
    let (world, replica) = World::start().await;
    let (key, _) = world.machine().await;
    let (other_key, _) = world.machine().await;
    let connection = RawAgent::connect(&world.nats, &key).await.unwrap();
    let mut bystander = Box::pin(
        RawAgent::connect(&world.nats, &other_key)
            .await
            .unwrap()
            .closed(),
    );
    replica.stop().await;
    // Committed by a replica that died before it could kick.
    let revoked = world
        .alter(&format!(
            "UPDATE identity.machines SET revoked_at = now(), change = nextval('identity.machine_change')
             WHERE public_key = '{}'",
            key.public_key()
        ))
        .await;
    assert_eq!(revoked, 1);
    let _replica = world.replica().await;
    tokio::time::timeout(PATIENCE, connection.closed())
        .await
        .unwrap();
    assert!(futures::poll!(&mut bystander).is_pending());
}

//! Who may connect to a real nats-server.

use std::time::Duration;

use nkeys::KeyPair;
use serde_json::json;
use testkit::eventually;

use crate::raw_agent::{RawAgent, sign};
use crate::world::{PATIENCE, World, agent};

#[tokio::test]
async fn an_enrolled_machine_connects_and_hears_its_own_orders() {
    use futures::StreamExt;
    let (world, replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let (org, machine) = (enrolled.organization_id, enrolled.machine_id);
    let bus = agent(&world.nats, &key, &enrolled).await;
    assert!(bus.wait_connected(PATIENCE).await);
    let mut orders = bus
        .subscribe(&contract::subject::act_all(org, machine))
        .await
        .unwrap();
    let subject = contract::subject::act(org, machine, contract::order::Verb::New);
    // The server may hear of the subscription after the first doorbell.
    let mut rung = None;
    for _ in 0..50 {
        let ring = world.action.publish(subject.clone(), b"ring".to_vec());
        ring.await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(200), orders.next());
        rung = heard.await.ok().flatten();
        if rung.is_some() {
            break;
        }
    }
    assert_eq!(rung.unwrap().payload, b"ring");
    let metrics = replica.admin_get("/metrics").await.unwrap();
    let admitted = "dashfleet_identity_callouts_total{outcome=\"admitted\"} 1";
    assert!(metrics.contains(admitted), "{metrics}");
    assert!(
        metrics.contains("dashfleet_identity_key_set_machines 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn only_a_known_key_with_its_own_signature_of_this_nonce_is_let_in() {
    let (world, _replica) = World::start().await;
    let (key, _) = world.machine().await;
    let (thief, nkey) = (KeyPair::new_user(), key.public_key());
    assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
    let unknown = RawAgent::connect(&world.nats, &thief).await.err().unwrap();
    assert!(unknown.contains("Authorization Violation"), "{unknown}");
    let mut replayed = String::new();
    let recorded = RawAgent::connect_with(&world.nats, |nonce| {
        replayed = sign(&key, nonce.as_bytes());
        json!({ "nkey": nkey, "sig": replayed })
    });
    assert!(recorded.await.is_ok());
    for (what, options) in [
        ("nothing", json!({})),
        ("no signature", json!({ "nkey": nkey })),
        ("an empty signature", json!({ "nkey": nkey, "sig": "" })),
        (
            "another connection's signature",
            json!({ "nkey": nkey, "sig": replayed }),
        ),
        (
            "a signature of something else",
            json!({ "nkey": nkey, "sig": sign(&key, b"x") }),
        ),
        ("a password", json!({ "user": "identity", "pass": "x" })),
        ("a token", json!({ "auth_token": "x" })),
        (
            "a user's JWT of its own making",
            json!({ "jwt": "e30.e30.x", "sig": replayed }),
        ),
    ] {
        let refused = RawAgent::connect_with(&world.nats, |_| options).await.err();
        assert!(
            refused.is_some_and(|text| text.contains("Authorization Violation")),
            "{what}"
        );
    }
    let forged = RawAgent::connect_with(
        &world.nats,
        |nonce| json!({ "nkey": nkey, "sig": sign(&thief, nonce.as_bytes()) }),
    );
    assert!(
        forged.await.is_err(),
        "the victim's key with the thief's signature"
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_replica() {
    let (world, one) = World::start().await;
    let two = world.replica().await;
    let (key, enrolled) = world.machine().await;
    assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
    world.revoke(enrolled.machine_id).await.unwrap();
    // The other replica hears of it, at the latest by its poll.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    for _ in 0..20 {
        assert!(RawAgent::connect(&world.nats, &key).await.is_err());
    }
    let refusals = [
        one.admin_get("/metrics").await.unwrap(),
        two.admin_get("/metrics").await.unwrap(),
    ];
    for metrics in refusals {
        assert!(
            metrics.contains("callouts_total{outcome=\"revoked\"}"),
            "both were asked: {metrics}"
        );
    }
}

#[tokio::test]
async fn a_machine_that_enrolled_at_another_replica_is_known_at_once() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    for _ in 0..10 {
        let (key, _) = world.machine().await;
        assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
    }
}

#[tokio::test]
async fn a_machine_that_comes_back_without_end_is_held_up_and_no_other() {
    let (world, replica) = World::start().await;
    let ((restless, _), (calm, _)) = (world.machine().await, world.machine().await);
    let mut admitted = 0;
    for _ in 0..40 {
        let connected = RawAgent::connect(&world.nats, &restless).await;
        admitted += u32::from(connected.is_ok());
    }
    // Twenty at once, and one for each second that it took.
    assert!((20..=35).contains(&admitted), "{admitted}");
    assert!(RawAgent::connect(&world.nats, &calm).await.is_ok());
    let metrics = replica.admin_get("/metrics").await.unwrap();
    assert!(metrics.contains("outcome=\"limited\""), "{metrics}");
    eventually("it may come again", PATIENCE, || async {
        RawAgent::connect(&world.nats, &restless).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_quarantined_machine_may_still_connect() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let quarantine = contract::identity::MachineQuarantine {
        org: enrolled.organization_id,
        machine_id: enrolled.machine_id,
        reason: "the journal became shorter".into(),
    };
    world
        .action
        .service_call(&quarantine, None, PATIENCE)
        .await
        .unwrap();
    assert!(RawAgent::connect(&world.nats, &key).await.is_ok());
}

#[tokio::test]
async fn agents_come_back_by_themselves_when_the_server_does() {
    let (mut world, replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let bus = agent(&world.nats, &key, &enrolled).await;
    assert!(bus.wait_connected(PATIENCE).await);
    world.nats.kill_and_restart().await;
    eventually("the agent came back", Duration::from_secs(60), || async {
        let state = bus.state().borrow().clone();
        (state == bus::BusState::Connected(2)).then_some(())
    })
    .await;
    replica.ready().await;
}

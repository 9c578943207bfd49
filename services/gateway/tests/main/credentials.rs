//! Credentials and grants: asked once, forgotten at once, and kept while identity is away but never too long.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashfleet_gateway::Patience;
use domain::access::Role;
use serde_json::json;
use testkit::eventually;

use crate::world::{GOOD, Replica, World, client, patience};

const ME: &str = "/api/v1/auth/me";
const LIST: &str = "/api/v1/machines";

#[tokio::test]
async fn a_credential_is_exchanged_once_also_by_many_at_once() {
    let world = World::new().await;
    *world.identity.delay.lock().unwrap() = Duration::from_millis(200);
    let replies = futures::future::join_all((0..50).map(|_| world.get(LIST))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(world.identity.exchanges(), 1);
    for _ in 0..10 {
        assert_eq!(world.get(LIST).await.status, 200);
    }
    assert_eq!(world.identity.exchanges(), 1);
    assert_eq!(world.get_as("dfa_good", LIST).await.status, 200);
    assert_eq!(
        world.identity.exchanges(),
        2,
        "another credential is another grant"
    );
}

#[tokio::test]
async fn a_revoked_credential_is_refused_within_a_second() {
    let world = World::new().await;
    assert_eq!(world.get(LIST).await.status, 200);
    assert_eq!(world.get_as("dfa_good", LIST).await.status, 200);
    world
        .identity
        .refused
        .lock()
        .unwrap()
        .insert(GOOD.to_owned());
    assert_eq!(
        world.get(LIST).await.status,
        200,
        "nobody said anything yet"
    );
    let began = Instant::now();
    world.revoked(world.identity.credential(GOOD)).await;
    eventually("the key is refused", Duration::from_secs(1), || async {
        (world.get(LIST).await.status == 401).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let asked = world.identity.exchanges();
    assert_eq!(world.get_as("dfa_good", LIST).await.status, 200);
    assert_eq!(
        world.identity.exchanges(),
        asked,
        "another credential is not touched"
    );
}

#[tokio::test]
async fn a_key_revoked_at_one_replica_is_refused_at_the_other_within_a_second() {
    let world = World::new().await;
    let other = Replica::start(&world, &[]).await;
    let client = client();
    let ask = || {
        let request = client.get(format!("{}{LIST}", other.base));
        let request = request.header("authorization", format!("Bearer {GOOD}"));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!((world.get(LIST).await.status, ask().await), (200, 200));
    world
        .identity
        .refused
        .lock()
        .unwrap()
        .insert(GOOD.to_owned());
    world.revoked(world.identity.credential(GOOD)).await;
    eventually("both refuse it", Duration::from_secs(1), || async {
        ((world.get(LIST).await.status, ask().await) == (401, 401)).then_some(())
    })
    .await;
    other.end().await;
}

#[tokio::test]
async fn an_answer_that_was_under_way_does_not_bring_a_revoked_credential_back() {
    let world = World::new().await;
    *world.identity.delay.lock().unwrap() = Duration::from_millis(500);
    let asking = world.get(LIST);
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        world
            .identity
            .refused
            .lock()
            .unwrap()
            .insert(GOOD.to_owned());
        world.revoked(world.identity.credential(GOOD)).await;
    };
    let (reply, ()) = tokio::join!(asking, revoking);
    assert_eq!(
        reply.status, 401,
        "identity said yes before the revocation, and the answer came after it"
    );
    assert_eq!(world.get(LIST).await.status, 401);
}

#[tokio::test]
async fn other_changes_of_rights_make_the_gateway_ask_again() {
    let world = World::new().await;
    assert_eq!(world.get(ME).await.json()["role"], "OWNER");
    *world.identity.role.lock().unwrap() = Role::Viewer;
    world.event("user", "changed", json!({})).await;
    eventually("the new role is known", Duration::from_secs(1), || async {
        (world.get(ME).await.json()["role"] == "VIEWER").then_some(())
    })
    .await;
    let asked = world.identity.exchanges();
    world
        .event(
            "key",
            "created",
            json!({ "credential": domain::CredentialId::new() }),
        )
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.get(ME).await.status, 200);
    assert_eq!(
        world.identity.exchanges(),
        asked,
        "a new key says nothing about the others"
    );
}

#[tokio::test]
async fn while_identity_is_away_its_word_holds_until_the_grant_expires_and_not_longer() {
    let fresh = Patience {
        grant_fresh: Duration::from_millis(300),
        grant_renew: Duration::from_millis(300),
        ..patience()
    };
    let mut world = World::with(fresh, &[]).await;
    *world.identity.lifetime.lock().unwrap() = chrono::Duration::seconds(4);
    assert_eq!(world.get(LIST).await.status, 200);
    let expires = Instant::now() + Duration::from_secs(4);
    world.identity_leaves().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    while Instant::now() < expires - Duration::from_millis(300) {
        assert_eq!(world.get(LIST).await.status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep_until((expires + Duration::from_millis(50)).into()).await;
    for _ in 0..5 {
        let reply = world.get(LIST).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, "1"),
            "{}",
            reply.text
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        world.get_as("dfk_good_2", LIST).await.status,
        503,
        "who was never known is not let in"
    );
    let service = world.identity.answer(&world.identity_bus).await;
    eventually("it recovers by itself", Duration::from_secs(3), || async {
        (world.get(LIST).await.status == 200).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_grant_in_use_is_renewed_before_anybody_waits_for_it() {
    let renew = Patience {
        grant_fresh: Duration::from_secs(5),
        grant_renew: Duration::from_millis(200),
        ..patience()
    };
    let world = World::with(renew, &[]).await;
    assert_eq!(world.get(LIST).await.status, 200);
    *world.identity.delay.lock().unwrap() = Duration::from_millis(500);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(world.get(LIST).await.status, 200);
    }
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "it waited: {:?}",
        began.elapsed()
    );
    eventually("identity was asked", Duration::from_secs(2), || async {
        (world.identity.exchanges() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_second_at_most() {
    let world = World::new().await;
    world
        .identity
        .refused
        .lock()
        .unwrap()
        .insert(GOOD.to_owned());
    for _ in 0..10 {
        assert_eq!(world.get(LIST).await.status, 401);
    }
    assert!(
        world.identity.exchanges() <= 2,
        "asked {} times",
        world.identity.exchanges()
    );
    world.identity.refused.lock().unwrap().clear();
    eventually(
        "it is let in again",
        Duration::from_millis(1_500),
        || async { (world.get(LIST).await.status == 200).then_some(()) },
    )
    .await;
}

#[tokio::test]
async fn too_many_failures_from_an_address_are_held_back_and_others_are_not() {
    let extra = [
        ("DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE", "20"),
        ("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let world = World::with(patience(), &extra).await;
    assert_eq!(world.get(LIST).await.status, 200);
    let guess = |number: usize, from: &'static str| {
        let credential = format!("Bearer dfk_guess{number}");
        let world = &world;
        async move {
            let headers: [(&str, &[u8]); 2] = [
                ("authorization", credential.as_bytes()),
                ("x-forwarded-for", from.as_bytes()),
            ];
            world.send("GET", LIST, &headers, "").await
        }
    };
    for number in 0..20 {
        assert_eq!(
            guess(number, "198.51.100.7").await.status,
            401,
            "guess {number}"
        );
    }
    let asked = world.identity.exchanges.load(Ordering::SeqCst);
    for number in 20..30 {
        let reply = guess(number, "198.51.100.7").await;
        assert_eq!(reply.status, 429, "guess {number}");
        let wait: u64 = reply.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
    assert_eq!(
        world.identity.exchanges(),
        asked,
        "identity is not asked for those"
    );
    let login = json!({ "email": "a@b", "password": "right" }).to_string();
    let held: [(&str, &[u8]); 2] = [("authorization", b""), ("x-forwarded-for", b"198.51.100.7")];
    assert_eq!(
        world
            .send("POST", "/api/v1/auth/login", &held, login.clone())
            .await
            .status,
        429
    );
    assert_eq!(
        guess(99, "198.51.100.8").await.status,
        401,
        "another address may try"
    );
    let known: [(&str, &[u8]); 1] = [("x-forwarded-for", b"198.51.100.7")];
    assert_eq!(
        world.send("GET", LIST, &known, "").await.status,
        200,
        "who is known goes on"
    );
}

#[tokio::test]
async fn a_credential_has_its_pace_and_is_told_so() {
    let world = World::with(patience(), &[("DASHFLEET_REQUESTS_PER_SECOND", "5")]).await;
    let reply = world.get(LIST).await;
    assert_eq!(
        (
            reply.header("ratelimit-limit"),
            reply.header("ratelimit-reset")
        ),
        ("5", "1")
    );
    let replies = futures::future::join_all((0..30).map(|_| world.get(LIST))).await;
    let (mut served, mut held) = (0, 0);
    for reply in &replies {
        match reply.status {
            200 => served += 1,
            429 => {
                assert_eq!(
                    (
                        reply.header("retry-after"),
                        reply.header("ratelimit-remaining")
                    ),
                    ("1", "0")
                );
                held += 1;
            }
            other => panic!("{other}: {}", reply.text),
        }
    }
    assert!(
        served <= 10 && held >= 20,
        "served {served}, held back {held}"
    );
    assert_eq!(
        world.get_as("dfa_good", LIST).await.status,
        200,
        "another credential has its own"
    );
    eventually("the next second", Duration::from_secs(2), || async {
        (world.get(LIST).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_the_bus_was_away_every_credential_is_asked_for_again() {
    let mut world = World::new().await;
    assert_eq!(world.get(LIST).await.status, 200);
    let asked = world.identity.exchanges();
    world.nats.kill_and_restart().await;
    eventually("the gateway is back", Duration::from_secs(15), || async {
        (world.get(LIST).await.status == 200 && world.identity.exchanges() > asked).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_bus_away_is_unavailable_and_comes_back_by_itself() {
    let mut world = World::new().await;
    assert_eq!(world.get(LIST).await.status, 200);
    world.nats.kill();
    eventually("the gateway notices", Duration::from_secs(5), || async {
        let ready = world
            .client
            .get(format!("{}/readyz", world.admin))
            .send()
            .await
            .unwrap();
        (ready.status().as_u16() == 503).then_some(())
    })
    .await;
    for path in [LIST, ME, "/api/v1/actions"] {
        let reply = world.get(path).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, "1"),
            "{path}: {}",
            reply.text
        );
    }
    assert_eq!(
        world.get_as("", "/docs").await.status,
        200,
        "pages need no bus"
    );
    world.nats.launch_again();
    eventually("it serves again", Duration::from_secs(15), || async {
        (world.get(LIST).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_an_owner_no_longer_takes_is_not_used_again() {
    let mut world = World::new().await;
    assert_eq!(world.get(LIST).await.status, 200);
    world.identity.rotate();
    world.owners_start_anew().await;
    // The owners that left may still be asked for a moment, and then nobody answers.
    let first = eventually("an owner answers", Duration::from_secs(5), || async {
        let status = world.get(LIST).await.status;
        (status != 503).then_some(status)
    })
    .await;
    assert_eq!(first, 401, "signed with a key that is gone");
    assert_eq!(world.get(LIST).await.status, 200, "exchanged anew");
}

#[tokio::test]
async fn after_logging_out_the_token_is_refused_here_at_once() {
    let world = World::new().await;
    assert_eq!(world.get_as("dfa_good", ME).await.status, 200);
    let headers: [(&str, &[u8]); 1] = [("authorization", b"Bearer dfa_good")];
    world
        .identity
        .refused
        .lock()
        .unwrap()
        .insert("dfa_good".to_owned());
    assert_eq!(
        world
            .send("POST", "/api/v1/auth/logout", &headers, "")
            .await
            .status,
        204
    );
    assert_eq!(world.get_as("dfa_good", ME).await.status, 401);
}

#[tokio::test]
async fn wrong_enrolment_tokens_and_proofs_are_failures_too() {
    let extra = [
        ("DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE", "20"),
        ("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let world = World::with(patience(), &extra).await;
    let ask = |path: &'static str, body: String, from: &'static str| {
        let world = &world;
        async move {
            let headers: [(&str, &[u8]); 2] =
                [("authorization", b""), ("x-forwarded-for", from.as_bytes())];
            let path = format!("/api/v1/agents/{path}");
            world.send("POST", &path, &headers, body).await.status
        }
    };
    let enroll = json!({
        "token": "dfe_guess", "challenge": "c", "publicKey": "U", "signature": "s", "hostname": "h",
        "inventory": {}, "labels": {}
    })
    .to_string();
    let standing = json!({ "challenge": "c", "publicKey": "U", "signature": "bad" }).to_string();
    for _ in 0..10 {
        assert_eq!(ask("enroll", enroll.clone(), "2001:db8::1").await, 403);
        assert_eq!(ask("standing", standing.clone(), "2001:db8::2").await, 403);
    }
    for (path, body) in [
        ("enroll", enroll.clone()),
        ("standing", standing),
        ("enroll/challenge", String::new()),
    ] {
        let status = ask(path, body, "2001:db8::3").await;
        assert_eq!(status, 429, "{path}: one network is one neighbour");
    }
    assert_eq!(ask("enroll", enroll, "2001:db8:0:1::1").await, 403);
}

#[tokio::test]
async fn a_neighbour_without_a_credential_asks_only_so_often() {
    let world = World::with(patience(), &[("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let challenge = |from: &'static str| {
        let world = &world;
        async move {
            let headers: [(&str, &[u8]); 2] =
                [("authorization", b""), ("x-forwarded-for", from.as_bytes())];
            let path = "/api/v1/agents/enroll/challenge";
            world.send("POST", path, &headers, String::new()).await
        }
    };
    // More than a second takes, at once; some may fall into the next second.
    let replies = futures::future::join_all((0..800).map(|_| challenge("198.51.100.7"))).await;
    let held: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(!held.is_empty() && held.len() <= 600, "{}", held.len());
    assert!(held.iter().all(|reply| reply.header("retry-after") == "1"));
    assert_eq!(challenge("198.51.100.8").await.status, 200);
}

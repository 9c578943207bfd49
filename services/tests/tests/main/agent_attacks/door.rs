//! Who gets in: whoever holds an enrolled key, as itself, until it is revoked.

use std::time::{Duration, Instant};

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::refused;
use crate::main::hostile::{Hostile, no_subscribe, signature};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_holds_an_enrolled_key_connects_and_only_as_itself() {
    let fleet = Fleet::start().await;
    let (me, peer) = (
        fleet.enroll(&fleet.ours).await,
        fleet.enroll(&fleet.ours).await,
    );
    let mut thief = fleet.connect(&me).await;
    let url = fleet.nats.url();
    let (mine, theirs, action) = (
        me.key.public_key(),
        peer.key.public_key(),
        KeyPair::from_seed(&fleet.nats.seed("action"))
            .unwrap()
            .public_key(),
    );
    let unknown = KeyPair::new_user();
    let issuer = KeyPair::new_account().public_key();
    let lies: Vec<(&str, Box<dyn Fn(&str) -> Value>)> = vec![
        ("nothing", Box::new(|_| json!({}))),
        (
            "a key that nobody enrolled",
            Box::new(
                |nonce| json!({ "nkey": unknown.public_key(), "sig": signature(&unknown, nonce) }),
            ),
        ),
        (
            "another machine's key",
            Box::new(|nonce| json!({ "nkey": theirs, "sig": signature(&me.key, nonce) })),
        ),
        (
            "a service's key",
            Box::new(|nonce| json!({ "nkey": action, "sig": signature(&me.key, nonce) })),
        ),
        (
            "an old signature",
            Box::new(|_| json!({ "nkey": mine, "sig": signature(&me.key, "an older nonce") })),
        ),
        ("no signature", Box::new(|_| json!({ "nkey": mine }))),
        (
            "an empty signature",
            Box::new(|_| json!({ "nkey": mine, "sig": "" })),
        ),
        (
            "no key",
            Box::new(|nonce| json!({ "sig": signature(&me.key, nonce) })),
        ),
        (
            "half a key",
            Box::new(|nonce| json!({ "nkey": mine[..20], "sig": signature(&me.key, nonce) })),
        ),
        (
            "an account's key",
            Box::new(|nonce| json!({ "nkey": issuer, "sig": signature(&me.key, nonce) })),
        ),
        (
            "a password",
            Box::new(|_| json!({ "user": "action", "pass": "action" })),
        ),
        (
            "a token",
            Box::new(|_| json!({ "auth_token": "dfe_0123456789abcdefghijklmnop" })),
        ),
        (
            "a service's name and a good key's place",
            Box::new(|_| json!({ "user": action, "pass": "", "nkey": action, "sig": "AAAA" })),
        ),
    ];
    for (what, claim) in &lies {
        let refusal = Hostile::claiming(&url, claim).await.err();
        assert_eq!(
            refusal.as_deref(),
            Some("Authorization Violation"),
            "{what}"
        );
    }
    // Claims beside a good key change nothing of who it is.
    let claims = [
        json!({ "account": "SYS" }),
        json!({ "user": "identity", "pass": "x" }),
        json!({ "name": format!("{}.{}", peer.org.token(), peer.id.token()) }),
        json!({ "jwt": "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.AAAA" }),
    ];
    for claim in &claims {
        let claimed = Hostile::claiming(&url, |nonce| {
            let mut all = claim.clone();
            all["nkey"] = mine.clone().into();
            all["sig"] = signature(&me.key, nonce).into();
            all
        });
        let Ok(mut claimed) = claimed.await else {
            continue;
        };
        let forbidden = [
            ">".to_owned(),
            "$SYS.>".to_owned(),
            format!("{}.>", peer.inbox()),
        ];
        for pattern in &forbidden {
            claimed.subscribe(pattern, None).await;
        }
        claimed.sync().await;
        refused(
            &claimed,
            &forbidden.map(|pattern| no_subscribe(&pattern, None)),
        );
    }
    // A revoked key is cut at once, and comes no more.
    let began = Instant::now();
    fleet.revoke(&fleet.ours, &me).await;
    thief.closed().await;
    let took = began.elapsed();
    thief.sync().await;
    let seed = me.key.seed().unwrap();
    for _ in 0..3 {
        assert!(
            Hostile::with_seed(&url, &seed).await.is_err(),
            "a revoked key connects"
        );
    }
    println!(
        "agent attacks: {} lies refused at the door, {} claims without effect, a revoked key cut after {took:?}",
        lies.len() + 3,
        claims.len()
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
}

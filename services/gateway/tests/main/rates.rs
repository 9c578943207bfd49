//! Limits over replicas: several gateways on one real bus, hammered at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use contract::rate::{RateTaken, SUBJECT};
use domain::Timestamp;
use futures::StreamExt;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::world::{GOOD, Replica, World, client, patience};

const LIST: &str = "/api/v1/machines";
const ADDRESS: (&str, &str) = ("DASHFLEET_ADDRESS_REQUESTS_PER_SECOND", "200");
const REQUESTS: (&str, &str) = ("DASHFLEET_REQUESTS_PER_SECOND", "200");
const LIMIT: f64 = 200.0;
/// How long it is hammered.
const LONG: Duration = Duration::from_secs(4);

/// What came of hammering.
#[derive(Default)]
struct Hammered {
    asked: AtomicUsize,
    let_through: AtomicUsize,
}

/// Asks so often in a second, whatever comes of it, until told to stop. `good` is the status of what is let through.
async fn hammer(
    base: String,
    path: &str,
    credential: &str,
    per_second: u32,
    good: u16,
    stop: Arc<AtomicBool>,
) -> Hammered {
    let (hammered, client) = (Hammered::default(), client());
    let workers = (0..4).map(|_| async {
        let mut ticks = tokio::time::interval(Duration::from_secs(4) / per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let mut request = client.get(format!("{base}{path}"));
            if !credential.is_empty() {
                request = request.header("authorization", format!("Bearer {credential}"));
            }
            let reply = request.send().await.unwrap();
            hammered.asked.fetch_add(1, Ordering::Relaxed);
            match reply.status().as_u16() {
                429 => {
                    let after: u64 = reply.headers()["retry-after"]
                        .to_str()
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert!((1..=6).contains(&after), "{after}");
                    assert_eq!(reply.headers()["ratelimit-remaining"], "0");
                }
                status => {
                    assert_eq!(status, good);
                    hammered.let_through.fetch_add(1, Ordering::Relaxed);
                }
            }
            // So that the connection is used again.
            drop(reply.bytes().await);
        }
    });
    futures::future::join_all(workers).await;
    hammered
}

/// What all replicas let through, as a part of the limit.
async fn ratio(
    bases: &[(String, u32)],
    path: &str,
    credential: &str,
    good: u16,
) -> (f64, Vec<f64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let hammers = bases
        .iter()
        .map(|(base, rate)| hammer(base.clone(), path, credential, *rate, good, stop.clone()));
    let timer = async {
        tokio::time::sleep(LONG).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (hammered, ()) = tokio::join!(futures::future::join_all(hammers), timer);
    let took = began.elapsed().as_secs_f64();
    let asked: usize = hammered
        .iter()
        .map(|one| one.asked.load(Ordering::Relaxed))
        .sum();
    let each: Vec<f64> = hammered
        .iter()
        .map(|one| one.let_through.load(Ordering::Relaxed) as f64 / (LIMIT * took))
        .collect();
    let all = each.iter().sum();
    println!(
        "rates: {} replicas asked {:.1} times the limit for {took:.1} s and let through {all:.3} of it: {each:.3?}",
        bases.len(),
        asked as f64 / (LIMIT * took)
    );
    assert!(
        asked as f64 > 2.0 * LIMIT * took,
        "too little was asked to mean anything: {asked}"
    );
    (all, each)
}

fn within_a_tenth(ratio: f64) {
    assert!((0.9..=1.1).contains(&ratio), "{ratio}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_let_a_key_through_as_often_as_one_would_also_when_one_sees_most_of_it() {
    let world = World::with(patience(), &[REQUESTS]).await;
    let other = Replica::start(&world, &[REQUESTS]).await;
    let bases = |one, two| [(world.base.clone(), one), (other.base.clone(), two)];
    within_a_tenth(ratio(&bases(500, 500), LIST, GOOD, 200).await.0);
    within_a_tenth(ratio(&bases(900, 100), LIST, "dfk_good_2", 200).await.0);
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_hold_an_address_before_anybody_asks_who_it_is_and_one_may_leave() {
    let world = World::with(patience(), &[ADDRESS]).await;
    let (second, third) = (
        Replica::start(&world, &[ADDRESS]).await,
        Replica::start(&world, &[ADDRESS]).await,
    );
    let bases = [
        (world.base.clone(), 400),
        (second.base.clone(), 400),
        (third.base.clone(), 400),
    ];
    // Without a credential it would be 401: nobody looked.
    within_a_tenth(ratio(&bases, LIST, "", 401).await.0);
    third.end().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    within_a_tenth(ratio(&bases[..2], LIST, "", 401).await.0);
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_one_limit_over_sessions_and_replicas() {
    let extra = [("DASHFLEET_USER_REQUESTS_PER_SECOND", "200")];
    let world = World::with(patience(), &extra).await;
    let other = Replica::start(&world, &extra).await;
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let sessions = [
        hammer(
            world.base.clone(),
            LIST,
            "dfa_good_1",
            400,
            200,
            stop.clone(),
        ),
        hammer(
            other.base.clone(),
            LIST,
            "dfa_good_2",
            400,
            200,
            stop.clone(),
        ),
    ];
    let timer = async {
        tokio::time::sleep(LONG).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (hammered, ()) = tokio::join!(futures::future::join_all(sessions), timer);
    let through: usize = hammered
        .iter()
        .map(|one| one.let_through.load(Ordering::Relaxed))
        .sum();
    within_a_tenth(through as f64 / (LIMIT * began.elapsed().as_secs_f64()));
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bus_each_replica_holds_the_limit_for_itself_and_with_it_again_together() {
    let mut world = World::with(patience(), &[ADDRESS]).await;
    let other = Replica::start(&world, &[ADDRESS]).await;
    let bases = [(world.base.clone(), 500), (other.base.clone(), 500)];
    world.nats.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, each) = ratio(&bases, "/docs/start.js", "", 200).await;
    for one in each {
        within_a_tenth(one);
    }
    world.nats.launch_again();
    testkit::eventually("the bus is back", Duration::from_secs(15), || async {
        let ready = |base: &str| client().get(format!("{base}/api/status")).send();
        let (one, two) = tokio::join!(ready(&world.base), ready(&other.base));
        let ok = one.ok()?.status() == 200 && two.ok()?.status() == 200;
        ok.then_some(())
    })
    .await;
    world.ready().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    within_a_tenth(ratio(&bases, "/docs/start.js", "", 200).await.0);
    other.end().await;
}

/// The status of an answer, and when to come again.
fn held_back(reply: reqwest::Response) -> (u16, Option<u64>) {
    let after = reply.headers().get("retry-after");
    let after = after.map(|after| after.to_str().unwrap().parse().unwrap());
    (reply.status().as_u16(), after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debt_is_paid_when_the_answer_said_so() {
    let extra = [("DASHFLEET_REQUESTS_PER_SECOND", "20")];
    let world = World::with(patience(), &extra).await;
    let other = Replica::start(&world, &extra).await;
    let client = client();
    let ask = |base: String| {
        let request = client
            .get(format!("{base}{LIST}"))
            .header("authorization", format!("Bearer {GOOD}"));
        async move { held_back(request.send().await.unwrap()) }
    };
    // Both at once spend all that they have, before they hear of each other; where that takes longer than they take to
    // hear, there is no debt, and it is tried again.
    let bases = [world.base.clone(), other.base.clone()];
    let mut longest = None;
    for _ in 0..10 {
        let many = std::iter::repeat_n(&bases, 30).flatten().cloned();
        futures::future::join_all(many.map(&ask)).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let held = futures::future::join_all(bases.clone().into_iter().map(&ask)).await;
        if held.iter().all(|(status, _)| *status == 429) {
            longest = held.iter().filter_map(|(_, after)| *after).max();
            break;
        }
    }
    let longest = longest.expect("a debt");
    tokio::time::sleep(Duration::from_secs(longest)).await;
    for base in bases {
        assert_eq!(ask(base).await.0, 200, "after {longest} s");
    }
    other.end().await;
}

#[tokio::test]
async fn failed_authentications_at_one_replica_count_at_the_other() {
    let extra = [
        ("DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE", "20"),
        ("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let world = World::with(patience(), &extra).await;
    let other = Replica::start(&world, &extra).await;
    let client = client();
    let guess = |base: &str, number: usize, from: &'static str| {
        let request = client
            .get(format!("{base}{LIST}"))
            .header("authorization", format!("Bearer dfk_guess{number}"))
            .header("x-forwarded-for", from);
        async move { request.send().await.unwrap() }
    };
    for number in 0..20 {
        let base = if number % 2 == 0 {
            &world.base
        } else {
            &other.base
        };
        // Another address of the same /64.
        let from = if number % 3 == 0 {
            "2001:db8::1"
        } else {
            "2001:db8::2:3"
        };
        assert_eq!(guess(base, number, from).await.status(), 401, "{number}");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for base in [&world.base, &other.base] {
        let held = guess(base, 99, "2001:db8::4").await;
        assert_eq!(held.status(), 429);
        let after: u64 = held.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((50..=60).contains(&after), "{after}");
        assert_eq!(guess(base, 99, "2001:db8:0:1::4").await.status(), 401);
    }
    other.end().await;
}

#[tokio::test]
async fn what_replicas_say_names_nobody_and_nonsense_is_not_listened_to() {
    let world = World::with(patience(), &[("DASHFLEET_REQUESTS_PER_SECOND", "100")]).await;
    // A stolen key of the gateway.
    let thief = world.nats.bus("gateway").await;
    let mut ear = thief.subscribe(SUBJECT).await.unwrap();
    thief.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..10 {
        assert_eq!(world.get(LIST).await.status, 200);
    }
    let heard = tokio::time::timeout(Duration::from_secs(5), ear.next())
        .await
        .expect("it is said")
        .expect("a message");
    let text = String::from_utf8(heard.payload).unwrap();
    for secret in [
        GOOD,
        "127.0.0.1",
        &world.identity.credential(GOOD).to_string(),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    let envelope: contract::Envelope<RateTaken> = serde_json::from_str(&text).unwrap();
    assert!(
        envelope
            .body
            .taken
            .iter()
            .all(|share| share.name.len() == 32)
    );

    let claim = |class: &str, name: &str, count: u32| {
        json!({
            "v": 1, "id": Uuid::now_v7(), "sentAt": Timestamp::now(),
            "body": { "replica": Uuid::new_v4(), "taken": [{ "class": class, "name": name, "count": count }] },
        })
    };
    for nonsense in [
        json!("x"),
        json!({ "v": 1 }),
        claim("nothing", &"0".repeat(32), 1),
        claim("requests", "who", 1),
        claim("requests", &"0".repeat(32), u32::MAX),
    ] {
        let bytes = nonsense.to_string().into_bytes();
        thief.publish(SUBJECT.to_owned(), bytes).await.unwrap();
    }
    thief.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        world.get(LIST).await.status,
        200,
        "others' debt is not ours"
    );

    // Whoever has the key can deny service, for as long as it goes on; not more.
    let ours = envelope
        .body
        .taken
        .iter()
        .find(|share| share.class == "requests")
        .expect("our key");
    let lie = claim("requests", &ours.name, u32::MAX).to_string();
    thief
        .publish(SUBJECT.to_owned(), lie.into_bytes())
        .await
        .unwrap();
    testkit::eventually("the lie is believed", Duration::from_secs(2), || async {
        (world.get(LIST).await.status == 429).then_some(())
    })
    .await;
    testkit::eventually("and forgotten", Duration::from_secs(8), || async {
        (world.get(LIST).await.status == 200).then_some(())
    })
    .await;
    let metrics = client()
        .get(format!("{}/metrics", world.admin))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "dashfleet_gateway_rate_messages_total{outcome=\"ignored\"} 4",
        "dashfleet_gateway_rate_limited_total{limit=\"requests\"}",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn changes_and_heavy_requests_have_limits_of_their_own() {
    let extra = [
        ("DASHFLEET_WRITES_PER_SECOND", "3"),
        ("DASHFLEET_HEAVY_REQUESTS_PER_SECOND", "2"),
    ];
    let world = World::with(patience(), &extra).await;
    let create = json!({ "selector": "env=prod", "kind": "ping", "payload": {} });
    let mut refusals = Vec::new();
    for _ in 0..10 {
        let reply = world.post("/api/v1/actions", &create).await;
        if reply.status == 429 {
            assert_eq!(reply.header("ratelimit-remaining"), "0");
            refusals.push(reply.json()["detail"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(reply.header("ratelimit-limit"), "2", "the tightest is told");
        }
    }
    assert!(refusals.len() >= 4, "{refusals:?}");
    assert!(
        refusals
            .iter()
            .any(|detail| detail.contains("heavy requests")),
        "{refusals:?}"
    );
    let reply = world.get(LIST).await;
    assert_eq!(reply.status, 200, "questions go on");
    assert_eq!(reply.header("ratelimit-limit"), "1000");
}

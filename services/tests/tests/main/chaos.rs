//! `kill -9` of everything at random points while 500 actions run: every action ends in a true state, none
//! executes twice (the agent's own execution log is the witness), none stays open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dashfleet_tests::agent::executions;
use dashfleet_tests::api::{Api, ENDED};
use dashfleet_tests::random::Random;
use dashfleet_tests::{Product, Storm};
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;

const ACTIONS: usize = 500;
const VICTIMS: [&str; 9] = [
    "agent",
    "action",
    "identity",
    "gateway",
    "metrics",
    "scheduler",
    "worker",
    "nats",
    "postgres",
];

/// What an action is.
const fn kind(place: usize) -> &'static str {
    if place % 50 == 25 { "restart" } else { "ping" }
}

/// Creates an action, again and again with the same key, until somebody says what became of it.
async fn create(api: &Api, machine: &str, place: usize, kind: &str) -> String {
    let key = format!("chaos-{place}");
    testkit::eventually(
        &format!("action {place} is taken"),
        Duration::from_secs(90),
        || async {
            let body = json!({ "machineId": machine, "kind": kind, "payload": {} });
            match api
                .send(
                    Method::POST,
                    "/api/v1/actions",
                    &[("Idempotency-Key", &key)],
                    Some(body),
                )
                .await
            {
                Ok((status, body)) if status == 201 => {
                    Some(body["id"].as_str().expect("an id").to_owned())
                }
                Ok((status, body)) => {
                    assert!([429, 503].contains(&status.as_u16()), "{status} {body}");
                    None
                }
                Err(_) => None,
            }
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_ends_truly_and_none_executes_twice_whatever_is_killed() {
    let product = Arc::new(Product::start(2));
    let (api, machine) = (product.api(), product.machine());
    let mut random = Random::announced("chaos");
    let storm = Storm::begin(product.clone(), random.clone(), &VICTIMS, 400..2_000);

    let pauses: Vec<u64> = (0..ACTIONS).map(|_| random.below(800)).collect();
    let ids: Vec<String> = futures::stream::iter(pauses.into_iter().enumerate())
        .map(|(place, pause)| {
            let (api, machine) = (&api, &machine);
            async move {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                create(api, machine, place, kind(place)).await
            }
        })
        .buffered(8)
        .collect()
        .await;
    let killed = storm.end().await;
    println!("killed {killed:?} while {ACTIONS} actions ran");
    assert_eq!(
        ids.iter().collect::<HashSet<_>>().len(),
        ACTIONS,
        "one action per key"
    );

    let mut ends: HashMap<String, u32> = HashMap::new();
    let mut statuses = HashMap::new();
    for id in &ids {
        let action = api.ended(id, Duration::from_secs(120)).await;
        let status = action["status"].as_str().expect("a status").to_owned();
        *ends.entry(status.clone()).or_default() += 1;
        statuses.insert(id.clone(), status);
    }
    let mut executed: HashMap<String, u32> = HashMap::new();
    for execution in executions(&product.folder().join("agent/execution.log")) {
        *executed.entry(execution.action).or_default() += 1;
    }
    println!(
        "ends: {ends:?}; executions in the witness: {}",
        executed.values().sum::<u32>()
    );
    for (place, id) in ids.iter().enumerate() {
        let times = executed.get(id).copied().unwrap_or(0);
        assert!(times <= 1, "{id} executed {times} times");
        match statuses[id].as_str() {
            // A new process confirms a restart, also one that came by a kill before the agent had noted what it would do.
            "SUCCEEDED" if kind(place) == "restart" => {}
            "SUCCEEDED" => assert_eq!(times, 1, "{id} is said to have succeeded"),
            "INTERRUPTED" => {}
            other => panic!("{id} ended {other}, executed {times} times"),
        }
    }
    // None stays open, by the list too.
    for status in ["QUEUED", "DELIVERED", "RUNNING"] {
        assert!(!ENDED.contains(&status));
        let open = api.get(&format!("/api/v1/actions?status={status}")).await;
        assert_eq!(open["items"].as_array().map(Vec::len), Some(0), "{open}");
    }
}

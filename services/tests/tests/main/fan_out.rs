//! One request for many machines, on the whole product: whom a selector chooses, and that each does it once, also when
//! the service that creates the actions is killed meanwhile.

use std::collections::HashSet;
use std::time::Duration;

use dashfleet_tests::product::signal_if_there;
use dashfleet_tests::random::Random;
use dashfleet_tests::{Api, Product, TestAgent};
use reqwest::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const ACTIONS: &str = "/api/v1/actions";

fn ping(selector: &str) -> Value {
    json!({ "selector": selector, "kind": "ping", "payload": {} })
}

/// The items of a fan-out that must be taken.
async fn fan_out(api: &Api, selector: &str, key: &str) -> Vec<Value> {
    let headers = [("Idempotency-Key", key)];
    let (status, body) = api
        .send(Method::POST, ACTIONS, &headers, Some(ping(selector)))
        .await
        .expect("an answer");
    assert_eq!(status, 202, "{body}");
    body["items"].as_array().expect("items").clone()
}

/// Waits until so many machines are known to be in production.
async fn labels_known(api: &Api, count: usize) {
    testkit::eventually("the labels are known", PATIENCE, || async {
        let listed = api.get("/api/v1/machines?selector=env%3Dprod").await;
        (listed["items"].as_array()?.len() == count).then_some(())
    })
    .await;
}

/// One try, whose answer may never come; `None` when it is to be repeated.
async fn attempt(api: &Api, key: &str) -> Option<Vec<Value>> {
    let headers = [("Idempotency-Key", key)];
    let asked = api.send(Method::POST, ACTIONS, &headers, Some(ping("env=prod")));
    let (status, body) = tokio::time::timeout(Duration::from_secs(3), asked)
        .await
        .ok()?
        .ok()?;
    if status == 202 {
        return body["items"].as_array().cloned();
    }
    assert!([429, 503].contains(&status.as_u16()), "{status} {body}");
    None
}

fn texts<'a>(items: &'a [Value], field: &str) -> HashSet<&'a str> {
    items
        .iter()
        .map(|item| item[field].as_str().expect("a text"))
        .collect()
}

fn executed(agent: &TestAgent) -> Vec<String> {
    let executions = agent.executions().into_iter();
    executions.map(|execution| execution.action).collect()
}

#[tokio::test]
async fn a_selector_reaches_the_machines_that_it_chooses_each_once_and_no_other() {
    let product = Product::start(2);
    let api = product.api();
    let mut web = TestAgent::enroll_with(&product, "web", &["env=prod", "role=web"]);
    let mut late = TestAgent::enroll_with(&product, "late", &["env=prod", "role=web"]);
    let mut db = TestAgent::enroll_with(&product, "db", &["env=prod", "role=db"]);
    for agent in [&mut web, &mut db] {
        agent.start();
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    }
    labels_known(&api, 3).await;

    // Two of the three, of which one is not there.
    let selector = "env=prod,role!=db";
    let first = fan_out(&api, selector, "first").await;
    assert_eq!(
        texts(&first, "machineId"),
        [web.machine.as_str(), late.machine.as_str()].into()
    );
    let of = |agent: &TestAgent| {
        let item = first.iter().find(|item| item["machineId"] == agent.machine);
        item.expect("an item")["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let (on_web, on_late) = (of(&web), of(&late));
    let done = api.ended(&on_web, PATIENCE).await;
    assert_eq!(
        (&done["status"], &done["machineId"]),
        (&json!("SUCCEEDED"), &json!(web.machine))
    );
    late.start();
    let done = api.ended(&on_late, PATIENCE).await;
    assert_eq!(done["status"], "SUCCEEDED", "{done}");

    // The same key again: the same actions, as they are now, and nothing more is done.
    let again = fan_out(&api, selector, "first").await;
    assert_eq!(texts(&again, "id"), texts(&first, "id"));
    assert_eq!(texts(&again, "status"), ["SUCCEEDED"].into());
    let (status, body) = api
        .send(
            Method::POST,
            ACTIONS,
            &[("Idempotency-Key", "first")],
            Some(ping("env=prod")),
        )
        .await
        .expect("an answer");
    assert_eq!(status, 409, "{body}");
    assert_eq!(executed(&web), [on_web]);
    assert_eq!(executed(&late), [on_late]);

    // Whoever is revoked is not chosen any more.
    let path = format!("/api/v1/machines/{}", late.machine);
    let (status, body) = api
        .send(Method::DELETE, &path, &[], None)
        .await
        .expect("an answer");
    assert_eq!(status, 204, "{body}");
    api.machine_is(&late.machine, "REVOKED", PATIENCE).await;
    let second = fan_out(&api, "env=prod", "second").await;
    assert_eq!(
        texts(&second, "machineId"),
        [web.machine.as_str(), db.machine.as_str()].into()
    );
    for id in texts(&second, "id") {
        assert_eq!(api.ended(id, PATIENCE).await["status"], "SUCCEEDED");
    }
    assert_eq!((executed(&web).len(), executed(&db).len()), (2, 1));

    // Nobody, and nobody by accident everybody.
    assert!(fan_out(&api, "env=nowhere", "third").await.is_empty());
    for (body, path) in [
        (ping(""), "selector"),
        (ping("env prod"), "selector"),
        (json!({ "kind": "ping", "payload": {} }), "machineId"),
    ] {
        let (status, problem) = api.post(ACTIONS, body).await;
        assert_eq!(
            (status.as_u16(), &problem["errors"][0]["path"]),
            (400, &json!(path)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_fan_out_cut_by_a_crash_is_whole_or_never_was_and_its_key_says_which() {
    const ROUNDS: usize = 5;
    let product = Product::start(2);
    let api = product.api();
    let mut random = Random::announced("fan-out");
    let mut agents: Vec<TestAgent> = ["a", "b", "c"]
        .iter()
        .map(|name| TestAgent::enroll_with(&product, name, &["env=prod"]))
        .collect();
    for agent in &mut agents {
        agent.start();
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    }
    labels_known(&api, agents.len()).await;

    let (mut made, mut answered) = (HashSet::new(), 0);
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let pause = Duration::from_micros(random.below(20_000));
        let killed = async {
            tokio::time::sleep(pause).await;
            for pid in product.pids("action") {
                // Of the round before it may be dead still.
                signal_if_there(pid, libc::SIGKILL);
            }
        };
        let (first, ()) = tokio::join!(attempt(&api, &key), killed);
        let items = testkit::eventually("somebody answers", Duration::from_secs(60), || {
            attempt(&api, &key)
        })
        .await;
        assert_eq!(items.len(), agents.len(), "{items:?}");
        let ids = texts(&items, "id");
        if let Some(first) = &first {
            assert_eq!(texts(first, "id"), ids, "what was answered stays");
            answered += 1;
        }
        made.extend(ids.into_iter().map(ToOwned::to_owned));
    }
    println!("{answered} of {ROUNDS} fan-outs were answered before the crash");
    assert_eq!(made.len(), ROUNDS * agents.len());

    for agent in &agents {
        let path = format!("{ACTIONS}?machineId={}&limit=200", agent.machine);
        let listed = api.get(&path).await;
        let listed = listed["items"].as_array().expect("items");
        assert_eq!(
            listed.len(),
            ROUNDS,
            "nothing was created beside: {listed:?}"
        );
        for action in listed {
            let id = action["id"].as_str().expect("an id");
            assert!(made.contains(id), "{action}");
            let ended = api.ended(id, Duration::from_secs(60)).await;
            assert_eq!(ended["status"], "SUCCEEDED", "{ended}");
        }
        let executed = executed(agent);
        assert_eq!(executed.len(), ROUNDS, "{executed:?}");
        assert_eq!(executed.iter().collect::<HashSet<_>>().len(), ROUNDS);
    }
}

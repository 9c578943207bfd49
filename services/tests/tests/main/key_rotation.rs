//! The keys that sign orders rotate (`deploy/bootstrap/src/keys.rs` says how). An agent that was named one of them at its
//! enrolment, and obeys that one alone, learns of the others from what a key that it knows has signed, and from nobody else.

use std::path::PathBuf;
use std::time::Duration;

use contract::order::{ORDER_PREFIX, Order, Signed, Task, Verb, fingerprint};
use contract::subject::act;
use dashfleet_agent::inbound::Identity;
use dashfleet_agent::state::enrolment::Enrolment;
use dashfleet_tests::product::signal;
use dashfleet_tests::{Api, Product, TestAgent};
use domain::action::ActionKind;
use domain::{ActionId, Timestamp};
use nkeys::KeyPair;
use reqwest::Method;
use serde_json::json;

use super::hostile::Hostile;

const PATIENCE: Duration = Duration::from_secs(60);

/// The key files of the action service.
struct Keys(PathBuf);

impl Keys {
    fn read(&self, name: &str) -> KeyPair {
        let seed = std::fs::read_to_string(self.0.join(name)).expect("a seed");
        KeyPair::from_seed(seed.trim()).expect("a key")
    }

    /// What an operator does: the next key is in use from now on. Gives the one that is next then.
    fn rotate(&self) -> KeyPair {
        let new = KeyPair::new_service();
        let (current, next) = (self.0.join("signing.nk"), self.0.join("signing-next.nk"));
        let seed = std::fs::read(&next).expect("a seed");
        std::fs::write(&current, seed).expect("a file");
        let seed = new.seed().expect("a seed");
        std::fs::write(&next, format!("{seed}\n")).expect("a file");
        new
    }
}

/// Kills a service, and waits until the supervisor has started it again.
async fn restart(product: &Product, part: &str) {
    let before = product.pids(part);
    for pid in &before {
        signal(*pid, libc::SIGKILL);
    }
    testkit::eventually("it runs again", PATIENCE, || async {
        let now = product.pids(part);
        let is_new = !now.is_empty() && now.iter().all(|pid| !before.contains(pid));
        is_new.then_some(())
    })
    .await;
}

/// Waits until an agent obeys these keys, and no others.
async fn obeys(agent: &TestAgent, keys: [&KeyPair; 2]) {
    let wanted = keys.map(|key| fingerprint(&key.public_key()));
    testkit::eventually("it was told of the keys", PATIENCE, || async {
        (agent.status()["actionKeys"] == json!(wanted)).then_some(())
    })
    .await;
}

/// Whether an agent does what the server signs now.
async fn answers(api: &Api, agent: &TestAgent) {
    let key = uuid::Uuid::new_v4().to_string();
    // Services that have just been started refuse for a moment.
    let id = testkit::eventually("the action is taken", PATIENCE, || async {
        let body = json!({ "machineId": agent.machine, "kind": "ping", "payload": {} });
        let headers = [("Idempotency-Key", key.as_str())];
        let sent = api.send(Method::POST, "/api/v1/actions", &headers, Some(body));
        let (status, body) = sent.await.ok()?;
        (status == 201).then(|| body["id"].as_str().expect("an id").to_owned())
    })
    .await;
    let ended = api.ended(&id, PATIENCE).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended}");
    assert!(has_executed(agent, &id), "by its own log too");
}

fn has_executed(agent: &TestAgent, action: &str) -> bool {
    let executions = agent.executions();
    executions
        .iter()
        .any(|execution| execution.action == action)
}

/// Somebody who can publish as the action service does.
struct Forger {
    client: Hostile,
    me: Identity,
}

impl Forger {
    async fn of(product: &Product, agent: &TestAgent) -> Self {
        let dev = product.dev();
        let seed = product.folder().join("keys/action/nats.nk");
        let seed = std::fs::read_to_string(seed).expect("a seed");
        let url = dev["natsUrl"].as_str().expect("natsUrl");
        let client = Hostile::with_seed(url, seed.trim()).await.expect("let in");
        let enrolment = Enrolment::look(&agent.folder.join("state")).expect("it can be read");
        let me = Identity::of(&enrolment.expect("an enrolment"));
        Self { client, me }
    }

    /// An order as the server gives it, but for who has signed it.
    async fn gives(&mut self, key: &KeyPair, task: Option<Task>, keys: Option<Vec<String>>) {
        let verb = if task.is_some() {
            Verb::New
        } else {
            Verb::Keys
        };
        let order = Order {
            deployment: self.me.deployment,
            org: self.me.org,
            machine: self.me.machine,
            fingerprint: self.me.fingerprint.clone(),
            verb,
            issued_at: Timestamp::now(),
            task,
            keys,
        };
        let body = serde_json::to_vec(&order).expect("JSON");
        let signed = Signed::sign(ORDER_PREFIX, body, key).expect("a signature");
        let signed = serde_json::to_vec(&signed).expect("JSON");
        let subject = act(self.me.org, self.me.machine, verb);
        self.client.publish(&subject, None, &signed).await;
        self.client.sync().await;
        assert_eq!(self.client.take_errors(), Vec::<String>::new());
    }
}

/// Waits until an agent has refused so many messages since its start, the last of them for who has signed it.
async fn refuses(agent: &TestAgent, count: u64, key: &KeyPair) {
    let signer = format!(
        "signed by `{}`, which is not a pinned key",
        key.public_key()
    );
    testkit::eventually("it says that it refuses", PATIENCE, || async {
        let status = agent.status();
        let said = &status["agent"];
        let reason = said["lastRefused"]["reason"].as_str()?;
        (said["refused"] == count && reason == signer).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_pinned_one_key_follows_a_rotation_and_obeys_no_key_that_nobody_introduced() {
    let product = Product::start(1);
    let api = product.api();
    let keys = Keys(product.folder().join("keys/action"));
    let (first, second) = (keys.read("signing.nk"), keys.read("signing-next.nk"));
    let named = fingerprint(&first.public_key());
    let options = ["--action-key", named.as_str()];
    let mut agent = TestAgent::enroll_by(&product.door(), "pinned", &options);
    assert_eq!(agent.status()["actionKeys"], json!([named]), "it alone");

    // Once connected it is told of the next one, in an order that the named one has signed.
    agent.start();
    obeys(&agent, [&first, &second]).await;
    answers(&api, &agent).await;

    // From now on the second one signs: nobody has told the agent more of it than that order.
    let third = keys.rotate();
    restart(&product, "action").await;
    answers(&api, &agent).await;
    // It asks at its start, and is told that the first one is given up, and of the third.
    agent.kill();
    agent.start();
    obeys(&agent, [&second, &third]).await;
    answers(&api, &agent).await;

    // A key that nobody has introduced does not introduce itself, and is not obeyed; nor is the one that was given up.
    let stranger = KeyPair::new_service();
    let mut forger = Forger::of(&product, &agent).await;
    let executions = agent.executions();
    let task = Task {
        action: ActionId::new(),
        seq: executions.last().expect("executions").seq + 1,
        attempt: 1,
        kind: ActionKind::Ping,
        payload: json!({}),
        idempotent: false,
        not_after: Timestamp::now().plus(chrono::Duration::hours(1)),
        traceparent: None,
    };
    forger
        .gives(&stranger, None, Some(vec![stranger.public_key()]))
        .await;
    refuses(&agent, 1, &stranger).await;
    forger.gives(&stranger, Some(task.clone()), None).await;
    refuses(&agent, 2, &stranger).await;
    forger.gives(&first, Some(task.clone()), None).await;
    refuses(&agent, 3, &first).await;
    assert_eq!(agent.executions(), executions);
    obeys(&agent, [&second, &third]).await;

    // Nothing else was wrong with that order.
    let action = task.action.to_string();
    forger.gives(&second, Some(task), None).await;
    testkit::eventually("it is obeyed", PATIENCE, || async {
        has_executed(&agent, &action).then_some(())
    })
    .await;
}

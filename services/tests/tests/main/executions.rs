//! Executions while workers die, stand still, or lose their servers: attempts never overlap in time, none is lost, and who comes
//! back late changes nothing. Handlers write down when they begin and end: the witness. (Many, and everything killed: `ledger`.)

use std::path::PathBuf;
use std::time::Duration;

use dashfleet_tests::api::Api;
use dashfleet_tests::product::{program, signal};
use dashfleet_tests::wire::Wire;
use dashfleet_tests::{Product, witness};
use serde_json::{Value, json};
use testkit::eventually;

const JOBS: &str = "/api/v1/jobs";
const EXECUTIONS: &str = "/api/v1/executions";

struct World {
    product: Product,
    api: Api,
    witness: PathBuf,
}

impl World {
    fn new(replicas: usize, concurrency: &str) -> Self {
        let witness =
            std::env::temp_dir().join(format!("dashfleet-witness-{}", uuid::Uuid::new_v4()));
        let path = witness.display().to_string();
        let product = Product::start_with(
            replicas,
            &[
                ("DASHFLEET_WORKER_WITNESS", &path),
                ("DASHFLEET_WORKER_CONCURRENCY", concurrency),
            ],
        );
        let api = product.api();
        Self {
            product,
            api,
            witness,
        }
    }

    async fn job(&self, name: &str, handler: &str, more: Value) -> String {
        let mut job = json!({ "name": name, "handler": handler, "retries": 0 });
        for (field, value) in more.as_object().expect("fields") {
            job[field] = value.clone();
        }
        let (status, body) = self.api.post(JOBS, job).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    async fn execute(&self, job: &str) -> String {
        let (status, body) = self
            .api
            .post(&format!("{JOBS}/{job}/execute"), json!({}))
            .await;
        assert_eq!(status, 202, "{body}");
        body["executionId"].as_str().expect("an id").to_owned()
    }

    /// So many at once; their ids.
    async fn batch(&self, job: &str, count: usize) -> Vec<String> {
        let items = vec![json!({ "jobId": job }); count];
        let (status, body) = self
            .api
            .post(&format!("{EXECUTIONS}/batch"), json!({ "items": items }))
            .await;
        assert_eq!(status, 202, "{body}");
        let items = body["items"].as_array().expect("items").iter();
        items
            .map(|item| item["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    async fn execution(&self, id: &str) -> Option<Value> {
        let answer = self
            .api
            .send(
                reqwest::Method::GET,
                &format!("{EXECUTIONS}/{id}"),
                &[],
                None,
            )
            .await;
        answer
            .ok()
            .filter(|(status, _)| status.is_success())
            .map(|(_, body)| body)
    }

    async fn becomes(
        &self,
        id: &str,
        limit: Duration,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(what, limit, || async {
            self.execution(id).await.filter(|execution| is(execution))
        })
        .await
    }

    /// How many are in this status, 200 at most.
    async fn count(&self, status: &str) -> usize {
        let page = self
            .api
            .send(
                reqwest::Method::GET,
                &format!("{EXECUTIONS}?status={status}&limit=200"),
                &[],
                None,
            )
            .await;
        page.ok()
            .and_then(|(_, body)| body["items"].as_array().map(Vec::len))
            .unwrap_or(usize::MAX)
    }

    async fn all_ended(&self, limit: Duration) {
        // One that goes from one state to the other between two looks is in neither: so nothing may be there in four of them.
        eventually("every execution has ended", limit, || async {
            for status in ["RUNNING", "PENDING", "RUNNING", "PENDING"] {
                if self.count(status).await > 0 {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Some(())
        })
        .await;
    }

    fn attempts(&self) -> witness::Attempts {
        witness::read(&self.witness)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may never have been written.
        drop(std::fs::remove_file(&self.witness));
    }
}

fn is_running(execution: &Value, attempt: i64) -> bool {
    execution["status"] == "RUNNING" && execution["attempt"] == attempt
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_is_followed_by_another_attempt() {
    let world = World::new(2, "5");
    let job = world
        .job(
            "long",
            "builtin/sleep",
            json!({ "config": { "ms": 4_000 } }),
        )
        .await;
    let id = world.execute(&job).await;
    let limit = Duration::from_secs(15);
    world
        .becomes(&id, limit, "it runs", |execution| is_running(execution, 1))
        .await;
    for pid in world.product.pids("worker") {
        signal(pid, libc::SIGKILL);
    }
    let killed = std::time::Instant::now();
    world
        .becomes(
            &id,
            limit,
            "another attempt runs within 15 s",
            |execution| is_running(execution, 2),
        )
        .await;
    println!(
        "another attempt after {:.1} s",
        killed.elapsed().as_secs_f64()
    );
    let ended = world
        .becomes(&id, limit, "it ends", |execution| {
            execution["status"] == "COMPLETED"
        })
        .await;
    assert_eq!(ended["attempts"][0]["outcome"], "LOST", "{ended}");
    world.attempts().never_overlap();
}

#[tokio::test]
async fn a_worker_that_stood_still_past_its_lease_changes_nothing() {
    let world = World::new(1, "5");
    // Longer than the lease and what follows it, so that the second attempt still runs when the first wakes up.
    let job = world
        .job(
            "long",
            "builtin/sleep",
            json!({ "config": { "ms": 20_000 } }),
        )
        .await;
    let id = world.execute(&job).await;
    let limit = Duration::from_secs(20);
    world
        .becomes(&id, limit, "it runs", |execution| is_running(execution, 1))
        .await;
    let frozen = world.product.pids("worker")[0];
    signal(frozen, libc::SIGSTOP);
    world
        .becomes(&id, limit, "it waits again", |execution| {
            execution["status"] == "PENDING"
        })
        .await;
    signal(frozen, libc::SIGCONT);
    world
        .becomes(&id, limit, "another attempt runs", |execution| {
            is_running(execution, 2)
        })
        .await;
    let ended = world
        .becomes(&id, Duration::from_secs(40), "it ends", |execution| {
            execution["status"] == "COMPLETED"
        })
        .await;
    assert_eq!(ended["attempt"], 2, "{ended}");
    let attempts = world.attempts();
    attempts.never_overlap();
    assert_eq!(
        attempts.ended(&id),
        [2],
        "the first one's handler took no step more"
    );
}

#[tokio::test]
async fn a_database_that_stands_still_doubles_nothing() {
    let world = World::new(1, "200");
    let job = world
        .job(
            "long",
            "builtin/sleep",
            json!({ "config": { "ms": 30_000 } }),
        )
        .await;
    let ids = world.batch(&job, 200).await;
    eventually("all of them run", Duration::from_secs(30), || async {
        (world.count("RUNNING").await == 200).then_some(())
    })
    .await;
    let postgres = world.product.pids("postgres")[0];
    signal(postgres, libc::SIGSTOP);
    let children = dashfleet_tests::product::children(postgres);
    for child in &children {
        signal(*child, libc::SIGSTOP);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    for pid in children.iter().chain([&postgres]) {
        signal(*pid, libc::SIGCONT);
    }
    world.all_ended(Duration::from_secs(120)).await;
    let attempts = world.attempts();
    attempts.never_overlap();
    for id in &ids {
        let execution = world.execution(id).await.expect("an execution");
        assert_eq!(execution["status"], "COMPLETED", "{execution}");
        let begun = attempts.begun(id);
        assert!(begun <= 2, "{id} began {begun} times");
        assert_eq!(
            attempts.ended(id),
            [execution["attempt"].as_i64().expect("an attempt")]
        );
    }
}

/// A worker that the launcher knows nothing of; it ends with the test.
struct Stranger(std::process::Child);

impl Stranger {
    fn start(world: &World, nats: &str) -> Self {
        let keys = world.product.folder().join("keys/worker");
        let worker = std::process::Command::new(program("dashfleet-worker"))
            .env("DASHFLEET_NATS_URLS", nats)
            .env("DASHFLEET_KEYS", keys)
            .env("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0")
            .env("DASHFLEET_WORKER_CONCURRENCY", "50")
            .env("DASHFLEET_WORKER_WITNESS", &world.witness)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        Self(worker.expect("a worker"))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_from_the_bus_doubles_nothing() {
    let world = World::new(1, "50");
    let more = json!({ "config": { "ms": 20_000 } });
    let job = world.job("long", "builtin/sleep", more).await;
    let dev = world.product.dev();
    let wire = Wire::to(dev["natsUrl"].as_str().expect("a URL")).await;
    let _stranger = Stranger::start(&world, &wire.url());
    // Each of the two workers has room for a half.
    let ids = world.batch(&job, 100).await;
    eventually("all of them run", Duration::from_secs(15), || async {
        (world.count("RUNNING").await == 100).then_some(())
    })
    .await;
    wire.cut();
    tokio::time::sleep(Duration::from_secs(20)).await;
    wire.mend();
    world.all_ended(Duration::from_secs(120)).await;
    let attempts = world.attempts();
    attempts.never_overlap();
    for id in &ids {
        let execution = world.execution(id).await.expect("an execution");
        assert_eq!(execution["status"], "COMPLETED", "{execution}");
        assert!(attempts.begun(id) <= 2, "{id} began too often");
        let ended = [execution["attempt"].as_i64().expect("an attempt")];
        assert_eq!(
            attempts.ended(id),
            ended,
            "the record is what the witness saw"
        );
    }
}

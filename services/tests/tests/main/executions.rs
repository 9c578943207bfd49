//! Executions while workers die, stand still, or lose their servers: attempts never overlap in time, none is lost, and who comes
//! back late changes nothing. Handlers write down when they begin and end: the witness. (Many, and everything killed: `ledger`.)

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dashfleet_tests::Product;
use dashfleet_tests::api::Api;
use dashfleet_tests::product::{program, signal, signal_if_there};
use dashfleet_tests::wire::Wire;
use dashfleet_tests::witness::{self, End};
use serde_json::{Value, json};
use testkit::eventually;

mod server;
mod standstill;

const JOBS: &str = "/api/v1/jobs";
const EXECUTIONS: &str = "/api/v1/executions";
/// The name of the worker that the launcher knows nothing of.
const STRANGER: &str = "stranger";
/// Its metric: sessions.
const BEGUN: &str = "dashfleet_worker_sessions_total{event=\"begun\"}";
/// How long servers stand still: longer than a lease, and than workers' patience with it.
const STANDSTILL: Duration = Duration::from_secs(20);
/// How long anything may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(40);

struct World {
    product: Product,
    api: Api,
    witness: PathBuf,
    allow: String,
}

impl World {
    fn new(replicas: usize, concurrency: &str) -> Self {
        Self::allowing(replicas, concurrency, "")
    }

    /// One whose handlers may connect to this private place.
    fn allowing(replicas: usize, concurrency: &str, allow: &str) -> Self {
        let witness =
            std::env::temp_dir().join(format!("dashfleet-witness-{}", uuid::Uuid::new_v4()));
        let path = witness.display().to_string();
        let product = Product::start_with(
            replicas,
            &[
                ("DASHFLEET_WORKER_WITNESS", &path),
                ("DASHFLEET_WORKER_CONCURRENCY", concurrency),
                ("DASHFLEET_EGRESS_ALLOW", allow),
            ],
        );
        let api = product.api();
        Self {
            product,
            api,
            witness,
            allow: allow.to_owned(),
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

    /// Waits until the handlers of all of these run, in this process.
    async fn runs(&self, ids: &[String], pid: i32) {
        eventually("all of them run", PATIENCE, || async {
            let attempts = self.attempts();
            let runs = |id: &String| match attempts.of(id)[..] {
                [.., (_, last)] => last.pid == pid && last.ended.is_none(),
                [] => false,
            };
            ids.iter().all(runs).then_some(())
        })
        .await;
    }

    /// One that was taken from its worker in the middle: it was dropped there, ran a second time, to its end, and no third time.
    async fn ran_again_once(&self, id: &str) {
        let execution = self.execution(id).await.expect("an execution");
        assert_eq!(execution["status"], "COMPLETED", "{execution}");
        let attempts = self.attempts();
        let seen = attempts.of(id);
        let ends: Vec<_> = seen
            .iter()
            .map(|(_, seen)| seen.ended.map(|(_, end)| end))
            .collect();
        assert_eq!(ends, [Some(End::Cut), Some(End::Returned)], "{id} {seen:?}");
        assert_eq!(execution["attempt"], seen[1].0, "{execution}, but {seen:?}");
        let mut before = execution["attempts"].as_array().into_iter().flatten();
        let is_lost = before.any(|attempt| attempt["outcome"] == "LOST");
        assert!(is_lost, "{execution}");
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
async fn a_database_that_stands_still_doubles_nothing() {
    let world = World::new(1, "200");
    // So long that they would still run when the database is back.
    let job = world
        .job(
            "long",
            "builtin/sleep",
            json!({ "config": { "ms": 30_000 } }),
        )
        .await;
    let ids = world.batch(&job, 200).await;
    world.runs(&ids, world.product.pids("worker")[0]).await;
    let postgres = world.product.pids("postgres")[0];
    signal(postgres, libc::SIGSTOP);
    let mut stopped = dashfleet_tests::product::children(postgres);
    stopped.retain(|child| signal_if_there(*child, libc::SIGSTOP));
    stopped.push(postgres);
    tokio::time::sleep(STANDSTILL).await;
    for pid in stopped {
        signal_if_there(pid, libc::SIGCONT);
    }
    world.all_ended(Duration::from_secs(120)).await;
    for id in &ids {
        world.ran_again_once(id).await;
    }
    world.attempts().never_overlap();
}

#[tokio::test]
async fn what_ended_while_the_scheduler_stood_still_does_not_run_again() {
    let world = World::new(1, "5");
    let short = json!({ "config": { "ms": 3_000 } });
    let job = world.job("short", "builtin/sleep", short).await;
    let ids = world.batch(&job, 5).await;
    world.runs(&ids, world.product.pids("worker")[0]).await;
    let scheduler = world.product.pids("scheduler")[0];
    signal(scheduler, libc::SIGSTOP);
    // Past the lease: by then the worker has given its session up, and asks for another.
    tokio::time::sleep(Duration::from_secs(11)).await;
    signal(scheduler, libc::SIGCONT);
    world.all_ended(Duration::from_secs(60)).await;
    let attempts = world.attempts();
    for id in &ids {
        let execution = world.execution(id).await.expect("an execution");
        assert_eq!(execution["status"], "COMPLETED", "{execution}");
        assert_eq!(execution["attempt"], 1, "{execution}");
        assert_eq!(attempts.ended(id), [1], "{execution}");
    }
}

/// A worker that the launcher knows nothing of; it ends with the test.
struct Stranger {
    child: std::process::Child,
    admin: String,
}

impl Stranger {
    fn start(world: &World, nats: &str, concurrency: &str) -> Self {
        let keys = world.product.folder().join("keys/worker");
        let address = format!("127.0.0.1:{}", testkit::folder::free_port());
        let worker = std::process::Command::new(program("dashfleet-worker"))
            .env("DASHFLEET_NATS_URLS", nats)
            .env("DASHFLEET_KEYS", keys)
            .env("DASHFLEET_ADMIN_ADDR", &address)
            .env("DASHFLEET_EGRESS_ALLOW", &world.allow)
            .env("DASHFLEET_WORKER_NAME", STRANGER)
            .env("DASHFLEET_WORKER_CONCURRENCY", concurrency)
            .env("DASHFLEET_WORKER_WITNESS", &world.witness)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        Self {
            child: worker.expect("a worker"),
            admin: format!("http://{address}"),
        }
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until it has a session.
    async fn ready(&self) {
        let admin = Api::new(&self.admin, "");
        eventually("the stranger is ready", PATIENCE, || async {
            let answer = admin.send(reqwest::Method::GET, "/readyz", &[], None).await;
            answer.ok()?.0.is_success().then_some(())
        })
        .await;
    }

    /// A metric's value, by its name and labels; nothing of it was counted when there is none.
    async fn metric(&self, name: &str) -> Option<f64> {
        let answer = reqwest::get(format!("{}/metrics", self.admin)).await;
        let text = answer.expect("an answer").text().await.expect("a text");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_from_the_bus_doubles_nothing() {
    let world = World::new(1, "200");
    let sleep = |ms: u32| json!({ "config": { "ms": ms } });
    // The launcher's worker has no room until all of what is looked at runs at the other one.
    let filler = world.job("filler", "builtin/sleep", sleep(120_000)).await;
    let fillers = world.batch(&filler, 200).await;
    let ours = world.product.pids("worker")[0];
    world.runs(&fillers, ours).await;
    let dev = world.product.dev();
    let wire = Wire::to(dev["natsUrl"].as_str().expect("a URL")).await;
    let stranger = Stranger::start(&world, &wire.url(), "200");
    stranger.ready().await;
    // So long that they would still run when the others begin.
    let job = world.job("long", "builtin/sleep", sleep(25_000)).await;
    let ids = world.batch(&job, 200).await;
    world.runs(&ids, stranger.pid()).await;
    let (status, body) = world
        .api
        .post(&format!("{EXECUTIONS}/cancel"), json!({ "jobId": filler }))
        .await;
    assert_eq!(status, 200, "{body}");
    eventually("the fillers are gone", PATIENCE, || async {
        (world.count("CANCELLED").await == 200).then_some(())
    })
    .await;

    wire.silence();
    let silent = Instant::now();
    let all = fillers.len() + ids.len();
    eventually("all of them run elsewhere", PATIENCE, || async {
        (world.attempts().begun_in(ours) >= all).then_some(())
    })
    .await;
    tokio::time::sleep(STANDSTILL.saturating_sub(silent.elapsed())).await;
    wire.mend();
    // It is back, and has lost what it had.
    eventually("the stranger has another session", PATIENCE, || async {
        let begun = stranger.metric(BEGUN).await;
        (begun >= Some(2.0)).then_some(())
    })
    .await;
    world.all_ended(Duration::from_secs(120)).await;
    let attempts = world.attempts();
    for id in &ids {
        world.ran_again_once(id).await;
        let pids: Vec<i32> = attempts.of(id).iter().map(|(_, seen)| seen.pid).collect();
        assert_eq!(pids, [stranger.pid(), ours], "{id}");
    }
    attempts.never_overlap();
}

//! Jobs on the whole product, as an integrator uses them: what they do to machines is done with the right of that moment, what they
//! log is followed line by line, and as many as one request may hold come and go. One product serves all of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use serde_json::{Value, json};
use testkit::eventually;

use self::follow::{Follower, Line};

mod follow;
mod rights;

const JOBS: &str = "/api/v1/jobs";
const EXECUTIONS: &str = "/api/v1/executions";
const PATIENCE: Duration = Duration::from_secs(30);
/// The most of one request.
const BATCH_MAX: usize = 10_000;
/// The longest body that the gateway takes.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// A POST that must be answered so; the answer.
async fn made(api: &Api, path: &str, body: Value, expected: u16) -> Value {
    let (status, answer) = api.post(path, body).await;
    assert_eq!(status, expected, "POST {path}: {answer}");
    answer
}

/// The id of something.
fn id_of(thing: &Value) -> String {
    thing["id"].as_str().expect("an id").to_owned()
}

async fn execution(api: &Api, id: &str) -> Value {
    api.get(&format!("{EXECUTIONS}/{id}")).await
}

/// Waits until an execution has ended so.
async fn ends(api: &Api, id: &str, expected: &str) -> Value {
    let ended = eventually(&format!("{id} ends"), PATIENCE, || async {
        let execution = execution(api, id).await;
        let open = ["PENDING", "RUNNING"].map(|status| json!(status));
        (!open.contains(&execution["status"])).then_some(execution)
    })
    .await;
    assert_eq!(ended["status"], expected, "{ended}");
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_act_with_the_right_of_the_moment_are_followed_line_by_line_and_come_and_go_by_the_thousand()
 {
    // What is checked for here is a port of this machine.
    let product = Product::start_with(1, &[("DASHFLEET_EGRESS_ALLOW", "127.0.0.1")]);
    rights::an_action_is_queued_with_the_right_of_the_moment(&product).await;
    no_line_is_missing_and_none_comes_twice(&product).await;
    ten_thousand_come_in_one_request_and_go_by_a_filter(&product.api()).await;
}

/// Each attempt logs a line and fails. One reads on, the other is cut off after each line and comes back.
async fn no_line_is_missing_and_none_comes_twice(product: &Product) {
    const RETRIES: usize = 3;
    let api = product.api();
    let url = format!("http://127.0.0.1:{}/", testkit::folder::free_port());
    let job = json!({
        "name": "followed", "handler": "builtin/http-check", "config": { "url": url }, "retries": RETRIES, "backoff": 500,
    });
    let job = id_of(&made(&api, JOBS, job, 201).await);
    let begun = made(&api, &format!("{JOBS}/{job}/execute"), json!({}), 202).await;
    let id = id_of(&begun);
    let mut steady = Follower::open(&api, &id, None).await;
    let steady = async {
        let mut lines = Vec::new();
        while let Some(line) = steady.next().await {
            lines.push(line);
        }
        (lines, steady.ended())
    };
    let cut = async {
        let (mut lines, mut last): (Vec<Line>, Option<String>) = (Vec::new(), None);
        // More often than there are lines.
        for _ in 0..RETRIES + 3 {
            let mut follower = Follower::open(&api, &id, last.as_deref()).await;
            let mut came = Vec::new();
            // All of one event: its id is that of the last of its lines.
            while came.is_empty() || follower.has_more() {
                match follower.next().await {
                    Some(line) => came.push(line),
                    None => break,
                }
            }
            lines.extend(came);
            if follower.ended().is_some() {
                return (lines, follower.ended());
            }
            last = follower.last();
        }
        panic!("it does not end: {lines:?}");
    };
    let ((steady, end), (cut, end_again)) = tokio::join!(steady, cut);
    assert_eq!(end.as_deref(), Some("FAILED"));
    assert_eq!(end, end_again);
    assert_eq!(steady, cut, "who was cut off read the same");
    let places: Vec<(i64, i64)> = steady.iter().map(|line| line.place).collect();
    let expected: Vec<(i64, i64)> = (1..=RETRIES as i64 + 1)
        .map(|attempt| (attempt, 0))
        .collect();
    assert_eq!(places, expected, "one line of each attempt: {steady:?}");
    let ended = ends(&api, &id, "FAILED").await;
    let kept: Vec<Value> = steady.iter().map(|line| json!(line.text)).collect();
    assert_eq!(ended["logs"], json!(kept), "{ended}");
    assert_eq!(ended["deadLetter"], true, "{ended}");
}

/// What of a job is in this status, 200 at most.
async fn some(api: &Api, job: &str, status: &str) -> usize {
    let path = format!("{EXECUTIONS}?jobId={job}&status={status}&limit=200");
    api.get(&path).await["items"]
        .as_array()
        .expect("items")
        .len()
}

async fn cancel(api: &Api, job: &str, status: &str) -> usize {
    let mut count = 0;
    // There may be more when one of them begins meanwhile.
    for _ in 0..10 {
        let filter = json!({ "jobId": job, "status": status });
        let changed = made(api, &format!("{EXECUTIONS}/cancel"), filter, 200).await;
        count += changed["count"].as_u64().expect("a count") as usize;
        if changed["more"] == false {
            return count;
        }
    }
    panic!("there is no end of what is {status}");
}

async fn ten_thousand_come_in_one_request_and_go_by_a_filter(api: &Api) {
    let config = json!({ "ms": 600_000 });
    let job =
        json!({ "name": "many", "handler": "builtin/sleep", "config": config, "timeout": 600_000 });
    let job = id_of(&made(api, JOBS, job, 201).await);
    let batch = json!({ "items": vec![json!({ "jobId": job }); BATCH_MAX] });
    let bytes = batch.to_string().len();
    assert!(bytes <= BODY_MAX_BYTES, "{bytes} bytes");
    let answer = made(api, &format!("{EXECUTIONS}/batch"), batch, 202).await;
    let items = answer["items"].as_array().expect("items");
    let ids: HashSet<String> = items.iter().map(id_of).collect();
    assert_eq!(ids.len(), BATCH_MAX, "each is one of its own");

    // Some run, and go on for longer than this test; the others wait.
    eventually("some run", PATIENCE, || async {
        (some(api, &job, "RUNNING").await > 0).then_some(())
    })
    .await;
    let (mut waited, mut stopped) = (0, 0);
    let until = Instant::now() + PATIENCE;
    loop {
        waited += cancel(api, &job, "PENDING").await;
        stopped += cancel(api, &job, "RUNNING").await;
        // What a worker has no slot for goes back to those that wait.
        let open = some(api, &job, "RUNNING").await + some(api, &job, "PENDING").await;
        if open == 0 {
            break;
        }
        assert!(Instant::now() < until, "{open} do not end");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(waited > 0 && stopped > 0, "{waited} waited, {stopped} ran");
    assert!(waited + stopped >= BATCH_MAX, "{waited} and {stopped}");
    let mut ended = HashSet::new();
    let mut cursor = String::new();
    for _ in 0..=BATCH_MAX / 200 {
        let path = format!("{EXECUTIONS}?jobId={job}&limit=200{cursor}");
        let page = api.get(&path).await;
        for execution in page["items"].as_array().expect("items") {
            assert_eq!(execution["status"], "CANCELLED", "{execution}");
            assert!(ended.insert(id_of(execution)), "twice: {execution}");
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(ended == ids, "{} of {} are listed", ended.len(), ids.len());
    println!("of {BATCH_MAX} {waited} waited and {stopped} ran when they were cancelled");
}

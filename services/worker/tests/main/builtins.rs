//! The handlers that are always there, as a job uses them.

use contract::{Problem, ProblemKind};
use dashfleet_worker::{Context, Failure, Handler};
use domain::MachineId;
use domain::execution::Outcome;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{Options, World};

/// A server that answers `/<status>` with that status and an echo of the request's first line.
async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let request = whole(&mut stream).await;
                let line = request.lines().next().unwrap_or_default().to_owned();
                let status = line
                    .split(['/', ' '])
                    .find_map(|part| part.parse::<u16>().ok());
                let body = format!(
                    "{line}|{}",
                    request.rsplit("\r\n").next().unwrap_or_default()
                );
                let answer = format!(
                    "HTTP/1.1 {} Said\r\ncontent-length: {}\r\nx-said: so\r\n\r\n{body}",
                    status.unwrap_or(200),
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
            });
        }
    });
    port
}

/// A request with its body.
async fn whole(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: Option<usize> = head.lines().find_map(|line| {
                let line = line.to_lowercase();
                line.strip_prefix("content-length: ")?.parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return text,
        }
    }
}

async fn world() -> World {
    World::new(Options {
        allow: "127.0.0.1".into(),
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_check_says_whether_it_answers_as_it_should() {
    let (world, port) = (world().await, server().await);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let good = [
        (json!({ "url": url("/204") }), 204),
        (json!({ "url": url("/503"), "expectedStatus": 503 }), 503),
        (
            json!({ "url": url("/418"), "expectedStatus": [200, 418], "method": "HEAD" }),
            418,
        ),
        (
            json!({ "url": url("/302"), "expectedStatus": 302, "headers": { "x-a": "b" } }),
            302,
        ),
    ];
    for (config, status) in good {
        let id = world.scheduler.run("builtin/http-check", config).await;
        let finish = world.scheduler.ended(id).await;
        assert_eq!(finish.outcome, Outcome::Completed, "{finish:?}");
        let result = finish.result.unwrap();
        assert_eq!(
            (&result["status"], &result["ok"]),
            (&json!(status), &json!(true))
        );
        assert!(result["durationMs"].is_u64());
        assert_eq!(world.scheduler.state().lines_of(id).len(), 1);
    }
    let closed = testkit::folder::free_port();
    let bad = [
        (json!({ "url": url("/503") }), "503 after", false),
        (
            json!({ "url": url("/200"), "expectedStatus": 201 }),
            "expected 201",
            false,
        ),
        (
            json!({ "url": format!("http://127.0.0.1:{closed}/") }),
            "connection refused",
            false,
        ),
        (
            json!({ "url": "http://127.0.0.2/" }),
            "not all of its addresses are public",
            true,
        ),
        (
            json!({ "url": "http://169.254.169.254/" }),
            "not all of its addresses are public",
            true,
        ),
        (
            json!({ "url": "ftp://127.0.0.1/" }),
            "config.url: must be a URL",
            true,
        ),
        (json!({}), "config.url: is required", true),
        (
            json!({ "url": url("/"), "expectedStatus": "up" }),
            "config.expectedStatus: ",
            true,
        ),
        (
            json!({ "url": url("/"), "method": "BREW" }),
            "config.method: must be one of",
            true,
        ),
        (
            json!({ "url": url("/"), "timeoutMs": 1 }),
            "config.timeoutMs: ",
            true,
        ),
        (
            json!({ "url": url("/"), "headers": { "a": 1 } }),
            "config.headers.a: ",
            true,
        ),
    ];
    for (config, expected, permanent) in bad {
        let id = world.scheduler.run("builtin/http-check", config).await;
        let finish = world.scheduler.ended(id).await;
        assert_eq!(
            (finish.outcome, finish.permanent),
            (Outcome::Failed, permanent),
            "{finish:?}"
        );
        let message = finish.error.unwrap().message;
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_request_returns_what_came_back() {
    let (world, port) = (world().await, server().await);
    for (method, body, echoed) in [
        ("GET", json!(null), "GET /404 HTTP/1.1|"),
        ("post", json!("as it is"), "POST /404 HTTP/1.1|as it is"),
        ("PUT", json!({ "a": 1 }), "PUT /404 HTTP/1.1|{\"a\":1}"),
    ] {
        let config = json!({
            "url": format!("http://127.0.0.1:{port}/404"), "method": method, "body": body,
        });
        let id = world.scheduler.run("builtin/http-request", config).await;
        let finish = world.scheduler.ended(id).await;
        assert_eq!(finish.outcome, Outcome::Completed, "{finish:?}");
        let result = finish.result.unwrap();
        assert_eq!(result["status"], 404);
        assert_eq!(result["headers"]["x-said"], "so");
        assert_eq!(result["body"], echoed);
        assert_eq!(result["encoding"], "text");
        assert_eq!(result["truncated"], false);
    }
    let id = world
        .scheduler
        .run(
            "builtin/http-request",
            json!({ "url": "http://127.0.0.1/" }),
        )
        .await;
    let finish = world.scheduler.ended(id).await;
    assert_eq!(finish.error.unwrap().message, "config.method: is required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn action_is_queued_and_asked_for_until_it_is_answered() {
    let world = World::new(Options::default()).await;
    let machine = MachineId::new();
    let config = json!({ "machineId": machine, "kind": "message", "payload": { "message": "hi" } });
    let id = world.scheduler.run("builtin/action", config.clone()).await;
    let finish = world.scheduler.ended(id).await;
    assert_eq!(finish.outcome, Outcome::Completed, "{finish:?}");
    assert!(finish.result.unwrap()["actionId"].is_string());
    let act = world.scheduler.state().acts[0].clone();
    assert_eq!(act.place, finish.place);
    // The key is the scheduler's to give.
    assert!(act.action.idempotency_key.is_none() && !act.action.by_key_alone);
    assert_eq!(
        (act.action.machine_id, act.action.kind.as_str()),
        (machine, "message")
    );
    assert_eq!(
        (act.action.payload, act.action.not_after),
        (json!({ "message": "hi" }), None)
    );
    // A refusal for want of a right lasts; what passes is asked again, for the same.
    let forbidden = Problem::new(ProblemKind::Forbidden, "actions:write is missing");
    world.scheduler.state().act_refusal = Some(forbidden);
    let id = world.scheduler.run("builtin/action", config.clone()).await;
    let finish = world.scheduler.ended(id).await;
    assert!(
        finish.outcome == Outcome::Failed && finish.permanent,
        "{finish:?}"
    );
    assert!(finish.error.unwrap().message.contains("actions:write"));
    world.scheduler.state().act_refusal = Some(Problem::unavailable("away"));
    let id = world.scheduler.run("builtin/action", config).await;
    world
        .scheduler
        .until("it is asked again", |state| {
            let asked = state.acts.iter().filter(|act| act.place.id == id);
            (asked.count() >= 2).then_some(())
        })
        .await;
    world.scheduler.state().act_refusal = None;
    assert_eq!(world.scheduler.ended(id).await.outcome, Outcome::Completed);
    let state = world.scheduler.state();
    let mut asked = state.acts.iter().filter(|act| act.place.id == id);
    let first = asked.next().unwrap();
    assert!(asked.all(|again| again == first));
}

/// Returns its key.
struct Key;

impl Handler for Key {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async { Ok(json!(context.idempotency_key())) })
    }
}

#[tokio::test]
async fn a_handler_is_told_what_marks_a_repetition() {
    let world = World::with("test/key", Key).await;
    let id = world
        .scheduler
        .execution_with("test/key", json!({}), |assignment| {
            assignment.concluded = 2;
        });
    world.scheduler.offer(&[id]).await;
    let finish = world.scheduler.ended(id).await;
    assert_eq!(finish.result, Some(json!(format!("{id}:2"))));
}

//! An execution's log as a stream: what is kept, then what is live, each line once and in its order, until the execution ends.

use std::time::{Duration, Instant};

use contract::live::Live;
use domain::execution::ExecutionStatus;
use serde_json::{Value, json};
use testkit::eventually;

use crate::standin::{ELSEWHERE, HERE, told};
use crate::world::{GOOD, World};

const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who follows a log.
struct Reader {
    reply: reqwest::Response,
    text: String,
}

/// An event: its id, its name, its data.
type Event = (String, String, Value);

impl Reader {
    async fn open(world: &World, query: &str, last: Option<&str>) -> Self {
        let path = format!("{}/api/v1/executions/{HERE}/logs{query}", world.base);
        let mut request = world.client.get(path).bearer_auth(GOOD);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 200);
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        Self {
            reply,
            text: String::new(),
        }
    }

    /// The next event; `None` when the stream is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let found = event.lines().find_map(|line| line.strip_prefix(name));
                    found.unwrap_or_default().to_owned()
                };
                let data = field("data: ");
                if !data.is_empty() {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some((field("id: "), field("event: "), data));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.reply.chunk()).await;
            let chunk = chunk.expect("an event in time").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The texts of the next lines, and the id of the last event.
    async fn lines(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut lines, mut last) = (Vec::new(), String::new());
        while lines.len() < count {
            let (id, name, data) = self.next().await.expect("lines");
            assert_eq!(name, "log", "{data}");
            let texts = data["lines"].as_array().unwrap().iter();
            lines.extend(texts.map(|line| line.as_str().unwrap().to_owned()));
            last = id;
        }
        (lines, last)
    }

    async fn ends(&mut self, status: &str) {
        let (id, name, data) = self.next().await.expect("the end");
        assert_eq!((id.as_str(), name.as_str()), ("", "end"));
        assert_eq!(data, json!({ "status": status }));
        assert_eq!(self.next().await, None);
    }
}

async fn tell(world: &World, bus: &bus::Bus, data: Value) {
    let live = Live {
        noun: "execution".into(),
        data,
    };
    let token = HERE.replace('-', "");
    bus.publish_live(world.identity.org, "execution", &token, &live)
        .await
        .unwrap();
    bus.flush().await.unwrap();
}

#[tokio::test]
async fn every_line_comes_once_and_in_its_order_until_the_execution_ends() {
    let world = World::new().await;
    let scheduler = world.nats.bus("scheduler").await;
    world.scheduler.logs(1, 0, &["a", "b"]);
    world.scheduler.logs(2, 0, &["c"]);
    let mut reader = Reader::open(&world, "", None).await;
    let (lines, last) = reader.lines(3).await;
    assert_eq!((lines.join(""), last.as_str()), ("abc".into(), "2-0"));

    // Live, and once more: the second is known.
    tell(&world, &scheduler, told(HERE, 2, 1, &["d", "e"])).await;
    tell(&world, &scheduler, told(HERE, 2, 1, &["d", "e"])).await;
    tell(&world, &scheduler, told(HERE, 2, 2, &["e", "f"])).await;
    let (lines, last) = reader.lines(3).await;
    assert_eq!((lines.join(""), last.as_str()), ("def".into(), "2-3"));

    // Lines are missing between those: the owner has them.
    world.scheduler.logs(2, 4, &["g", "h", "i"]);
    tell(&world, &scheduler, told(HERE, 2, 6, &["i"])).await;
    let (lines, last) = reader.lines(3).await;
    assert_eq!((lines.join(""), last.as_str()), ("ghi".into(), "2-6"));

    // Another attempt: the one before may have said more.
    world.scheduler.logs(2, 7, &["j"]);
    world.scheduler.logs(3, 0, &["k"]);
    tell(&world, &scheduler, told(HERE, 3, 0, &["k"])).await;
    assert_eq!(reader.lines(2).await.0.join(""), "jk");

    // What is no news ends nothing; nor does what cannot be read.
    tell(
        &world,
        &scheduler,
        json!({ "id": HERE, "status": "RUNNING" }),
    )
    .await;
    tell(&world, &scheduler, json!({ "log": 7 })).await;
    world.scheduler.logs(3, 1, &["l"]);
    *world.scheduler.status.lock().unwrap() = ExecutionStatus::Completed;
    tell(
        &world,
        &scheduler,
        json!({ "id": HERE, "status": "COMPLETED" }),
    )
    .await;
    assert_eq!(reader.lines(1).await.0.join(""), "l");
    reader.ends("COMPLETED").await;
}

#[tokio::test]
async fn who_comes_back_goes_on_where_it_was() {
    let world = World::new().await;
    world.scheduler.logs(1, 0, &["a", "b", "c"]);
    *world.scheduler.status.lock().unwrap() = ExecutionStatus::Failed;
    for (query, last, expected) in [
        ("", Some("1-0"), "bc"),
        ("?after=1-1", None, "c"),
        // What a browser says goes before the address that it was given.
        ("?after=1-1", Some("1-0"), "bc"),
        ("?after=1-1", Some(""), "c"),
    ] {
        let mut reader = Reader::open(&world, query, last).await;
        assert_eq!(reader.lines(expected.len()).await.0.join(""), expected);
        reader.ends("FAILED").await;
    }
    let mut reader = Reader::open(&world, "?after=1-2", None).await;
    reader.ends("FAILED").await;

    let logs = |execution: &str, query: &str| format!("/api/v1/executions/{execution}/logs{query}");
    let reply = world.get(&logs(HERE, "?after=x")).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["after".to_owned()])
    );
    let header: [(&str, &[u8]); 1] = [("last-event-id", b"1")];
    let reply = world.send("GET", &logs(HERE, ""), &header, "").await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["Last-Event-ID".to_owned()])
    );
    assert_eq!(world.get(&logs(ELSEWHERE, "")).await.status, 404);
    assert_eq!(world.get_as("", &logs(HERE, "")).await.status, 401);
}

#[tokio::test]
async fn a_stream_is_over_when_its_credential_is_revoked_and_goes_on_when_another_is() {
    let mut world = World::new().await;
    world.scheduler.logs(1, 0, &["a"]);
    let mut reader = Reader::open(&world, "", None).await;
    assert_eq!(reader.lines(1).await.0, ["a"]);
    // Of somebody else, and of somebody, as far as is known here: it is asked again, and goes on.
    world.revoked(world.identity.credential("dfa_good")).await;
    let asked = world.identity.exchanges();
    world.event("user", "edited", json!({})).await;
    eventually("it is asked again", PATIENCE, || async {
        (world.identity.exchanges() > asked).then_some(())
    })
    .await;
    world.scheduler.logs(1, 1, &["b"]);
    let scheduler = world.nats.bus("scheduler").await;
    tell(&world, &scheduler, told(HERE, 1, 1, &["b"])).await;
    assert_eq!(reader.lines(1).await.0, ["b"]);
    let began = Instant::now();
    // What is known here is not asked for.
    world.identity_leaves().await;
    world.revoked(world.identity.credential(GOOD)).await;
    let (_, name, data) = reader.next().await.expect("a reason");
    assert_eq!(
        (name.as_str(), &data["kind"]),
        ("problem", &json!("UNAUTHENTICATED"))
    );
    assert_eq!(reader.next().await, None);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() {
    let mut world = World::new().await;
    world.scheduler.logs(1, 0, &["a"]);
    let mut reader = Reader::open(&world, "", None).await;
    reader.lines(1).await;
    let began = Instant::now();
    let ended = tokio::spawn(async move { while reader.next().await.is_some() {} });
    world.end().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    ended.await.unwrap();
}

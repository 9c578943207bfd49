//! A worker that is stopped past its lease and goes on when another one has what it had: it asks nobody for anything any more, what
//! it did nobody takes, and the row of the attempt that runs by then stays as it is.

use std::time::Duration;

use dashfleet_tests::product::signal;
use dashfleet_tests::wire::Wire;
use dashfleet_tests::witness::{Attempts, End};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::eventually;
use uuid::Uuid;

use super::server::{Asked, Server};
use super::{BEGUN, PATIENCE, STRANGER, Stranger, World, is_running};

/// Who runs an execution.
const ROW: &str = "SELECT r.attempt, r.token, r.session_id, s.worker FROM scheduler.running AS r
    JOIN scheduler.sessions AS s ON s.id = r.session_id WHERE r.id = $1";
/// Row-level security is no obstacle to the owner of the tables: he takes it away.
const SEEN: [&str; 2] = [
    "ALTER TABLE scheduler.running NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE scheduler.sessions NO FORCE ROW LEVEL SECURITY",
];

/// The attempt, its token, its session, and the worker's name.
type Row = (i32, Uuid, Uuid, String);

/// Two workers, of which the stranger has the execution that is looked at.
struct Stage {
    database: PgConnection,
    stranger: Stranger,
    wire: Wire,
    server: Server,
    world: World,
    id: String,
    first: Row,
}

impl Stage {
    /// And what the other worker's only slot waits for, and what the execution's handler waits for.
    async fn new() -> (Self, Asked, Asked) {
        let mut server = Server::start().await;
        let place = server.address().to_owned();
        let world = World::allowing(1, "1", &place);
        let ask = |path: &str| {
            let url = format!("http://{place}{path}");
            json!({ "config": { "url": url, "method": "GET", "timeoutMs": 200_000 } })
        };
        let handler = "builtin/http-request";
        let filler = world.job("filler", handler, ask("/filler")).await;
        world.execute(&filler).await;
        let filler = server.asked("/filler", PATIENCE).await;
        let dev = world.product.dev();
        let wire = Wire::to(dev["natsUrl"].as_str().expect("a URL")).await;
        let stranger = Stranger::start(&world, &wire.url(), "1");
        stranger.ready().await;
        let job = world.job("work", handler, ask("/work")).await;
        let id = world.execute(&job).await;
        let asked = server.asked("/work", PATIENCE).await;
        let mut database = owner(&dev).await;
        let first = row(&mut database, &id).await;
        assert_eq!((first.0, first.3.as_str()), (1, STRANGER), "{first:?}");
        let stage = Self {
            database,
            stranger,
            wire,
            server,
            world,
            id,
            first,
        };
        (stage, filler, asked)
    }

    /// Gives the other worker room: the row when it runs the execution, and what the handler waits for there.
    async fn taken(&mut self, filler: Asked) -> (Row, Asked) {
        filler.answer("200 OK", "", "");
        let asked = self.server.asked("/work", PATIENCE).await;
        let second = row(&mut self.database, &self.id).await;
        assert_eq!(second.0, 2, "{second:?}");
        assert_ne!(second.1, self.first.1, "another token");
        assert_ne!(second.2, self.first.2, "another session");
        assert_ne!(second.3, STRANGER);
        (second, asked)
    }

    /// How many of the stranger's finishes were answered like this.
    async fn answered(&self, verdict: &str) -> f64 {
        let name = format!("dashfleet_worker_finishes_total{{verdict=\"{verdict}\"}}");
        self.stranger.metric(&name).await.unwrap_or(0.0)
    }

    /// The row is what it was, and the attempt that runs is the one that ends the execution; what was seen of it.
    async fn ends(mut self, second: &Row, asked: Asked) -> Attempts {
        let shown = self.world.execution(&self.id).await.expect("an execution");
        assert!(is_running(&shown, 2), "{shown}");
        let now = row(&mut self.database, &self.id).await;
        assert_eq!(now, *second, "whoever woke up has changed it");
        asked.answer("200 OK", "", "second");
        let ended = self
            .world
            .becomes(&self.id, PATIENCE, "it ends", |execution| {
                execution["status"] == "COMPLETED"
            })
            .await;
        assert_eq!(ended["attempt"], 2, "{ended}");
        assert_eq!(ended["attempts"][0]["outcome"], "LOST", "{ended}");
        assert_eq!(ended["result"]["body"], "second", "{ended}");
        assert_eq!(self.server.paths(), ["/filler", "/work", "/work"]);
        let attempts = self.world.attempts();
        attempts.never_overlap();
        attempts
    }
}

async fn owner(dev: &Value) -> PgConnection {
    let url = dev["postgresUrl"].as_str().expect("a URL");
    let mut owner = PgConnection::connect(url).await.expect("PostgreSQL");
    for sql in SEEN {
        let seen = sqlx::query(sql).execute(&mut owner).await;
        seen.expect("the owner may");
    }
    owner
}

async fn row(database: &mut PgConnection, id: &str) -> Row {
    let id = Uuid::parse_str(id).expect("an id");
    let row = sqlx::query_as::<_, Row>(ROW).bind(id).fetch_one(database);
    row.await.expect("a row that runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_past_its_lease_asks_nobody_for_anything_any_more() {
    let (mut stage, filler, asked) = Stage::new().await;
    let id = stage.id.clone();
    signal(stage.stranger.pid(), libc::SIGSTOP);
    // With its next step the handler would follow this.
    asked.answer("302 Found", "Location: /again\r\n", "");
    let (second, again) = stage.taken(filler).await;
    signal(stage.stranger.pid(), libc::SIGCONT);
    let end = |attempt: i64| {
        let seen = stage.world.attempts().seen(&id, attempt);
        seen.and_then(|seen| seen.ended).map(|(_, end)| end)
    };
    let first = eventually("its handler is gone", PATIENCE, || async { end(1) }).await;
    assert_eq!(first, End::Cut);
    eventually("it has another session", PATIENCE, || async {
        (stage.stranger.metric(BEGUN).await >= Some(2.0)).then_some(())
    })
    .await;
    // Time to do what it must not.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for verdict in ["applied", "duplicate", "fenced"] {
        assert_eq!(stage.answered(verdict).await, 0.0, "it said {verdict}");
    }
    let attempts = stage.ends(&second, again).await;
    assert_eq!(attempts.ended(&id), [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_before_a_worker_stood_still_past_its_lease_is_fenced() {
    let (mut stage, filler, asked) = Stage::new().await;
    let id = stage.id.clone();
    // The handler returns, and nobody hears of it.
    stage.wire.silence_at("run.finish");
    asked.answer("200 OK", "", "first");
    eventually("the finish is lost", PATIENCE, || async {
        (stage.wire.silent() == 1).then_some(())
    })
    .await;
    signal(stage.stranger.pid(), libc::SIGSTOP);
    let (second, again) = stage.taken(filler).await;
    // It goes on with a network that works, and says it again.
    stage.wire.cut();
    eventually("its connection is gone", PATIENCE, || async {
        (stage.wire.used() == 0).then_some(())
    })
    .await;
    stage.wire.mend();
    signal(stage.stranger.pid(), libc::SIGCONT);
    eventually("its finish is fenced", PATIENCE, || async {
        (stage.answered("fenced").await >= 1.0).then_some(())
    })
    .await;
    for verdict in ["applied", "duplicate"] {
        assert_eq!(stage.answered(verdict).await, 0.0, "{verdict}");
    }
    let attempts = stage.ends(&second, again).await;
    assert_eq!(attempts.ended(&id), [1, 2], "both returned");
}

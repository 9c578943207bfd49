//! Presence that is true, with real agents: killed, frozen, moved, and with a bus server that dies. The history of
//! presence remembers every change, also one that no reader happened to see.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashfleet_tests::product::signal;
use dashfleet_tests::{Api, Clustered, Product, TestAgent, Wire};
use reqwest::Method;

const PATIENCE: Duration = Duration::from_secs(20);
/// What is promised from the kill on.
const KILLED_WITHIN: Duration = Duration::from_secs(3);
/// What is promised from the freeze on.
const FROZEN_WITHIN: Duration = Duration::from_secs(25);
/// How long a machine counts as online after its client went, and a little: by then it would have been shown.
const GRACE: Duration = Duration::from_secs(4);

/// How a history begins.
const CAME: &str = "online: connected";

/// Everything that readers of the API were shown, by machine.
type Shown = BTreeMap<String, HashSet<String>>;

/// Reads the list of machines again and again until told to stop; what it showed, and how often there was no answer.
fn watch(api: Api, over: Arc<AtomicBool>) -> tokio::task::JoinHandle<(Shown, usize)> {
    tokio::spawn(async move {
        let (mut shown, mut silent) = (Shown::new(), 0);
        while !over.load(Ordering::Relaxed) {
            match api.send(Method::GET, "/api/v1/machines", &[], None).await {
                Ok((status, list)) if status.is_success() => {
                    for machine in list["items"].as_array().expect("machines") {
                        let text = |name: &str| machine[name].as_str().unwrap().to_owned();
                        shown.entry(text("id")).or_default().insert(text("status"));
                    }
                }
                // The gateway's own connection, or who was asked, may have gone with a server.
                _ => silent += 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (shown, silent)
    })
}

fn only(status: &str) -> HashSet<String> {
    HashSet::from([status.to_owned()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_shows_offline_within_3_s_and_a_frozen_one_within_25_s() {
    let product = Product::start(2);
    let api = product.api();
    let mut agents: Vec<_> = ["killed", "frozen"]
        .map(|name| TestAgent::enroll(&product, name))
        .into();
    for agent in &mut agents {
        agent.start();
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    }
    let (mut killed, frozen) = (agents.remove(0), agents.remove(0));
    let froze = Instant::now();
    signal(frozen.pid().unwrap(), libc::SIGSTOP);
    let freezing = async {
        api.machine_is(&frozen.machine, "OFFLINE", FROZEN_WITHIN)
            .await;
        froze.elapsed()
    };
    let killing = async {
        let mut took = Vec::new();
        for round in 0..3 {
            if round > 0 {
                killed.start();
                api.machine_is(&killed.machine, "ONLINE", PATIENCE).await;
            }
            let begun = Instant::now();
            killed.kill();
            api.machine_is(&killed.machine, "OFFLINE", KILLED_WITHIN)
                .await;
            took.push(begun.elapsed());
            // Each question goes to one of the two replicas of metrics; they say the same.
            for _ in 0..30 {
                let shown = api
                    .get(&format!("/api/v1/machines/{}", killed.machine))
                    .await;
                assert_eq!(shown["status"], "OFFLINE", "{shown}");
            }
        }
        took
    };
    let (frozen_after, killed_after) = tokio::join!(freezing, killing);
    println!("OFFLINE {killed_after:?} after kill -9, {frozen_after:?} after SIGSTOP");
    assert!(killed_after.iter().all(|took| *took <= KILLED_WITHIN));
    assert!(frozen_after <= FROZEN_WITHIN);

    // Who thaws is back; and each change was written once, whichever replica heard of it.
    signal(frozen.pid().unwrap(), libc::SIGCONT);
    api.machine_is(&frozen.machine, "ONLINE", Duration::from_secs(60))
        .await;
    assert_eq!(
        api.presence(&frozen.machine).await,
        [CAME, "offline: no answer", CAME]
    );
    assert_eq!(
        api.presence(&killed.machine).await,
        [CAME, "offline: connection lost"].repeat(3)
    );
}

/// Behind which path the agent is, once so many sessions of it are known: one that only connects may still give up.
async fn moved(wires: &[Wire], pools: &database::Pools, sessions: i64) -> usize {
    testkit::eventually("the agent is with the other server", PATIENCE, || async {
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM metrics.sessions")
            .fetch_one(pools.system())
            .await
            .unwrap();
        let place = wires.iter().position(|wire| wire.used() > 0);
        place.filter(|_| known >= sessions)
    })
    .await
}

/// Between two servers, each behind a path that is cut under the agent: the server sees its client go, after which a
/// machine counts as online for two seconds and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_moves_between_two_servers_is_never_shown_offline() {
    let fleet = Clustered::start(2, 2).await;
    let api = fleet.api();
    let mut wires = Vec::new();
    for server in &fleet.servers {
        wires.push(Wire::to(&server.url()).await);
    }
    let mut agent = TestAgent::enroll_at(&fleet.door, "moving", &[]);
    agent.reaches(&wires.iter().map(Wire::url).collect::<Vec<_>>());
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;

    let over = Arc::new(AtomicBool::new(false));
    let watching = watch(api.clone(), over.clone());
    let pools = fleet.database.pools("metrics");
    let mut away = Vec::new();
    let mut place = moved(&wires, &pools, 1).await;
    for already in 1..=10 {
        let (from, to) = (&wires[place], &wires[1 - place]);
        to.mend();
        let begun = Instant::now();
        from.cut();
        place = moved(&wires, &pools, already + 1).await;
        away.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(GRACE).await;
    over.store(true, Ordering::Relaxed);
    let (shown, silent) = watching.await.unwrap();
    println!("moved 10 times, away for {away:?}; {silent} questions without an answer");
    assert_eq!(shown[&agent.machine], only("ONLINE"));
    assert_eq!(api.presence(&agent.machine).await, [CAME]);
    let (sessions, servers): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT server_id) FROM metrics.sessions")
            .fetch_one(pools.system())
            .await
            .unwrap();
    assert!(sessions >= 11 && servers == 2, "{sessions} on {servers}");
}

/// Six agents, two on each of three servers; one server is killed, and one of its agents with it. The other five are
/// never shown OFFLINE, from the kill until the grace of a lost server is over; the one that did not come back is, but
/// only then. What the two replicas of metrics say is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bus_server_of_three_dies_without_a_false_alarm() {
    let mut fleet = Clustered::start(3, 2).await;
    let api = fleet.api();
    let mut agents = Vec::new();
    for place in 0..6 {
        let mut agent = TestAgent::enroll_at(&fleet.door, &place.to_string(), &[]);
        agent.reaches(&fleet.urls(place % 3));
        agent.start();
        agents.push(agent);
    }
    for agent in &agents {
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    }
    let pools = fleet.database.pools("metrics");
    let spread: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM metrics.sessions WHERE closed_at IS NULL GROUP BY server_id",
    )
    .fetch_all(pools.system())
    .await
    .unwrap();
    assert_eq!(spread, [2, 2, 2]);

    let over = Arc::new(AtomicBool::new(false));
    let watching = watch(api.clone(), over.clone());
    let begun = Instant::now();
    fleet.servers[1].kill();
    let mut gone = agents.remove(1);
    gone.kill();
    // Servers give a sign of life every 10 s: one is lost after 25 s without, and its sessions have 45 s of grace.
    let limit = Duration::from_secs(100);
    api.machine_is(&gone.machine, "OFFLINE", limit).await;
    let took = begun.elapsed();
    tokio::time::sleep(GRACE).await;
    over.store(true, Ordering::Relaxed);
    let (shown, silent) = watching.await.unwrap();
    println!("the lost one OFFLINE after {took:?}; {silent} questions without an answer");
    assert!(took > Duration::from_secs(45), "{took:?}");

    for agent in &agents {
        assert_eq!(shown[&agent.machine], only("ONLINE"));
        assert_eq!(api.presence(&agent.machine).await, [CAME]);
    }
    assert_eq!(
        api.presence(&gone.machine).await,
        [CAME, "offline: server lost"]
    );

    // The same from each replica alone.
    let both = api.get("/api/v1/machines").await;
    fleet.kill("metrics", 0);
    let one = testkit::eventually("the other replica answers", PATIENCE, || async {
        let answer = api.send(Method::GET, "/api/v1/machines", &[], None).await;
        let (status, list) = answer.ok()?;
        status.is_success().then_some(list)
    })
    .await;
    let statuses = |list: &serde_json::Value| -> BTreeMap<String, String> {
        let machines = list["items"].as_array().unwrap().iter();
        machines
            .map(|machine| (machine["id"].to_string(), machine["status"].to_string()))
            .collect()
    };
    assert_eq!(statuses(&both), statuses(&one));
}

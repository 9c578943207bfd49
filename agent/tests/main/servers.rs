//! Which server of the bus an agent uses: the first of its list that works, never one that is not safe, and it says which.

use std::path::Path;

use dashfleet_agent::state::StateFolder;
use dashfleet_agent::state::enrolment::Enrolment;
use domain::action::ActionKind;
use serde_json::Value;
use testkit::{eventually, folder::free_port};

use super::care::{PROGRAM, call};
use super::program::task;
use super::world::{Agent, PATIENCE, World};

/// Another list of servers than the enrolment gave.
fn move_to(agent: &Agent, urls: &[String]) {
    let state = StateFolder::take(&agent.state(), false).unwrap();
    let mut enrolment = Enrolment::read(&state).unwrap().unwrap();
    enrolment.enrolled.nats_urls = urls.to_vec();
    enrolment.write(&state).unwrap();
}

fn ask(agent: &Agent, arguments: &[&str]) -> String {
    let machine_id = agent.path.join("machine-id");
    let output = call(Path::new(PROGRAM), &agent.state(), &machine_id, arguments);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_uses_the_first_server_that_works_and_says_which() {
    let world = World::new().await;
    let agent = world.enrol();
    let closed = format!("nats://127.0.0.1:{}", free_port());
    let open = format!("ws://192.0.2.1:{}/nats", free_port());
    let by_websocket = format!("{}/nats", world.nats.websocket_url());
    let urls = [closed.clone(), open.clone(), by_websocket.clone()];
    move_to(&agent, &urls);
    let _running = agent.start();
    world.until_synced(0).await;
    let ping = task(1, ActionKind::Ping);
    world.queue(&ping);
    world.ring(&agent, contract::order::Verb::New, &ping).await;
    world.result(ping.action).await;

    eventually("status says by which way", PATIENCE, || async {
        let status: Value = serde_json::from_str(&ask(&agent, &["status", "--json"])).unwrap();
        (status["agent"]["bus"] == by_websocket.as_str()).then_some(())
    })
    .await;
    let shown = ask(&agent, &["status"]);
    assert!(
        shown.contains(&format!("by way of     {by_websocket}\n")),
        "{shown}"
    );

    let said = ask(&agent, &["diagnose"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for looked in [
        format!("WRONG The bus {closed} cannot be reached: "),
        format!("WRONG The bus {open} cannot be reached: `{open}`: ws:// is not encrypted"),
        format!("ok The bus {by_websocket} answers. The agent uses it."),
    ] {
        assert!(said.contains(&looked), "{looked}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_safe_server_does_not_begin() {
    let world = World::new().await;
    let agent = world.enrol();
    move_to(&agent, &["ws://192.0.2.1:4280/nats".to_owned()]);
    let mut running = agent.start();
    assert_eq!(running.code().await, 64);
    let said = running.said();
    assert!(said.contains("ws:// is not encrypted"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnose_says_when_a_running_agent_has_no_connection_and_when_a_server_speaks_no_tls() {
    let world = World::new().await;
    let agent = world.enrol();
    let url = world.nats.url().replacen("nats://", "tls://", 1);
    move_to(&agent, std::slice::from_ref(&url));
    let _running = agent.start();
    eventually("the agent has tried", PATIENCE, || async {
        let status: Value = serde_json::from_str(&ask(&agent, &["status", "--json"])).ok()?;
        (status["agent"]["connection"] == "CONNECTING").then_some(())
    })
    .await;
    let said = ask(&agent, &["diagnose"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for looked in [
        "WRONG The agent runs and has had no connection to the bus since ".to_owned(),
        format!("WRONG The bus {url} cannot be reached: it does not speak TLS"),
    ] {
        assert!(said.contains(&looked), "{looked}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnose_says_when_a_web_server_is_no_way_to_the_bus() {
    let world = World::new().await;
    let agent = world.enrol();
    // nats-server's port for WebSocket takes no such path; any web server answers like that.
    let url = format!("{}/mqtt", world.nats.websocket_url());
    move_to(&agent, std::slice::from_ref(&url));
    let said = ask(&agent, &["diagnose"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let looked =
        format!("WRONG The bus {url} cannot be reached: it takes no WebSocket connection:");
    assert!(said.contains(&looked), "{said}");
}

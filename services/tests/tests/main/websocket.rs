//! Agents whose network lets out nothing but HTTPS: the bus through the gateway's port, with and without TLS in front.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dashfleet_tests::product::signal;
use dashfleet_tests::{Api, Product, TestAgent};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::Folder;

const PATIENCE: Duration = Duration::from_secs(40);

/// The HTTPS port in front of a gateway.
struct Tls {
    child: Child,
    port: String,
    authority: String,
    _folder: Folder,
}

impl Tls {
    fn before(url: &str) -> Self {
        let folder = Folder::new("tls");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/websocket/tls.py");
        let (host, port) = url
            .trim_start_matches("http://")
            .split_once(':')
            .expect("a port");
        let mut child = Command::new("python3")
            .arg(program)
            .arg(folder.path())
            .args([host, port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut port = String::new();
        let said = child.stdout.take().expect("its output");
        BufReader::new(said).read_line(&mut port).expect("a line");
        let authority = folder.path().join("authority.pem");
        Self {
            child,
            port: port.trim().to_owned(),
            authority: std::fs::read_to_string(authority).expect("openssl made an authority"),
            _folder: folder,
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What enrolment would have given where the installation names these servers and this authority.
fn told(agent: &TestAgent, urls: &[&str], authority: Option<&str>) {
    let path = agent.folder.join("state/enrolment.json");
    let text = std::fs::read_to_string(&path).expect("an enrolment");
    let mut enrolment: Value = serde_json::from_str(&text).expect("JSON");
    enrolment["enrolled"]["natsUrls"] = json!(urls);
    enrolment["enrolled"]["natsCa"] = json!(authority);
    std::fs::write(&path, enrolment.to_string()).expect("a file");
}

/// How the agent says that it stands.
fn standing(agent: &TestAgent) -> Value {
    let output = agent
        .command()
        .args(["status", "--json"])
        .output()
        .expect("the agent");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    status["agent"].clone()
}

async fn answers(api: &Api, agent: &TestAgent) {
    let id = api.action(&agent.machine, "ping", json!({})).await;
    let action = api.ended(&id, PATIENCE).await;
    assert_eq!(action["status"], "SUCCEEDED", "{action}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_only_https_lets_out_works_through_the_gateway_and_comes_back_to_it() {
    let product = Product::start(1);
    let api = product.api();
    let tls = Tls::before(&api.url);
    let closed = format!("nats://127.0.0.1:{}", testkit::folder::free_port());
    let plain = format!("{}/nats", api.url.replacen("http", "ws", 1));
    let safe = format!("wss://localhost:{}/nats", tls.port);
    let mut agents = [
        (TestAgent::enroll(&product, "loopback"), plain, None),
        (
            TestAgent::enroll(&product, "walled"),
            safe.clone(),
            Some(tls.authority.as_str()),
        ),
    ];
    for (agent, url, authority) in &mut agents {
        told(agent, &[&closed, url], *authority);
        agent.start();
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
        assert_eq!(standing(agent)["bus"], url.as_str());
        answers(&api, agent).await;
    }

    // The gateway dies, and its tunnels with it; the supervisor starts another on the same port.
    let before: Vec<Value> = agents
        .iter()
        .map(|(agent, ..)| standing(agent)["since"].clone())
        .collect();
    signal(product.pids("gateway")[0], libc::SIGKILL);
    for ((agent, url, _), before) in agents.iter().zip(before) {
        testkit::eventually("it is connected anew", PATIENCE, || async {
            let now = standing(agent);
            (now["bus"] == url.as_str() && now["since"] != before).then_some(())
        })
        .await;
        api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
        answers(&api, agent).await;
        assert_eq!(agent.executions().len(), 2);
    }

    // An authority that did not sign: nothing is said to whoever stands there.
    let mut stranger = TestAgent::enroll(&product, "stranger");
    let other = Tls::before(&api.url);
    told(&stranger, &[&safe], Some(other.authority.as_str()));
    stranger.start();
    let log = || std::fs::read_to_string(stranger.folder.join("agent.log")).unwrap_or_default();
    testkit::eventually("it is refused by the agent", PATIENCE, || async {
        log().contains("invalid peer certificate").then_some(())
    })
    .await;
    assert_eq!(standing(&stranger)["connection"], "CONNECTING");

    // Who is revoked is cut off at once, whichever way it came.
    let (walled, ..) = &mut agents[1];
    let path = format!("/api/v1/machines/{}", walled.machine);
    let (status, body) = api
        .send(Method::DELETE, &path, &[], None)
        .await
        .expect("an answer");
    assert!(status.is_success(), "{status} {body}");
    let code = testkit::eventually("the agent says that it was revoked", PATIENCE, || {
        let code = walled.exit_code();
        async move { code }
    })
    .await;
    assert_eq!(code, 68);
}

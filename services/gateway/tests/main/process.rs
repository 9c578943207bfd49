//! The program as a process: its configuration, its lines, its end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::{Nats, eventually, folder::free_port};

use crate::world::{client, empty_folder};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashfleet-gateway"));
    command.env_clear();
    command
}

#[test]
fn bad_configuration_exits_64_and_names_the_variable() {
    let folder = empty_folder();
    let keys = folder.path().display().to_string();
    for (variables, named) in [
        (vec![], "DASHFLEET_NATS_URLS"),
        (vec![("DASHFLEET_NATS_URLS", "nats://x")], "DASHFLEET_KEYS"),
        (
            vec![
                ("DASHFLEET_NATS_URLS", "nats://x"),
                ("DASHFLEET_KEYS", &keys),
                ("DASHFLEET_REQUESTS_PER_SECOND", "fast"),
            ],
            "DASHFLEET_REQUESTS_PER_SECOND",
        ),
    ] {
        let ended = program().envs(variables).output().unwrap();
        assert_eq!(ended.status.code(), Some(64), "{named}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn the_effective_configuration_is_printed() {
    let variables = [
        ("DASHFLEET_NATS_URLS", "nats://x"),
        ("DASHFLEET_KEYS", "/keys"),
    ];
    let printed = program()
        .envs(variables)
        .arg("--print-config")
        .output()
        .unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    for line in [
        "DASHFLEET_HTTP_ADDR=0.0.0.0:8080",
        "DASHFLEET_REQUESTS_PER_SECOND=1000",
        "DASHFLEET_TRUSTED_PROXIES=",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{text}");
    }
}

#[tokio::test]
async fn a_request_is_one_line_of_json_with_its_trace_and_without_secrets() {
    let nats = Nats::start().await;
    let (http, admin) = (free_port(), free_port());
    let mut child = program()
        .env("DASHFLEET_NATS_URLS", nats.url())
        .env("DASHFLEET_KEYS", nats.keys("gateway"))
        .env("DASHFLEET_HTTP_ADDR", format!("127.0.0.1:{http}"))
        .env("DASHFLEET_ADMIN_ADDR", format!("127.0.0.1:{admin}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let client = client();
    eventually("it is ready", Duration::from_secs(20), || async {
        let reply = client
            .get(format!("http://127.0.0.1:{admin}/readyz"))
            .send()
            .await
            .ok()?;
        reply.status().is_success().then_some(())
    })
    .await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let reply = client
        .get(format!(
            "http://127.0.0.1:{http}/api/v1/machines?selector=private"
        ))
        .header("authorization", "Bearer dfk_very_secret")
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status().as_u16(), 503, "nobody answers behind it");
    assert!(
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    let lines: Vec<String> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert!(child.wait().unwrap().success(), "SIGTERM is a good end");
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("very_secret") || line.contains("private")),
        "{lines:?}"
    );
    let values = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect(line));
    let access: Vec<Value> = values
        .filter(|line| line["target"] == "dashfleet_gateway::access")
        .collect();
    assert_eq!(access.len(), 1, "{access:?}");
    assert_eq!(access[0]["method"], "GET");
    assert_eq!(access[0]["route"], "/api/v1/machines");
    assert_eq!(access[0]["path"], "/api/v1/machines");
    assert_eq!(access[0]["status"], 503);
    assert_eq!(access[0]["client"], "127.0.0.1");
    assert_eq!(access[0]["trace_id"], trace);
    assert!(access[0]["duration_ms"].is_f64());
}

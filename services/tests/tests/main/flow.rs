//! The main job, end to end, as a newcomer sees it: the launcher, the agent of this machine, the API.

use std::time::Duration;

use dashfleet_tests::{Product, TestAgent};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_message_reaches_the_machine_and_the_machine_answers_in_its_own_words() {
    let product = Product::start(1);
    let (api, machine) = (product.api(), product.machine());

    let id = api
        .action(
            &machine,
            "message",
            json!({ "title": "Hello", "message": "from the test" }),
        )
        .await;
    let action = api.ended(&id, PATIENCE).await;
    assert_eq!(action["status"], "SUCCEEDED", "{action}");
    let shown = action["result"]["shownOn"]
        .as_str()
        .expect("where it was shown");
    assert!(["DESKTOP", "TERMINAL", "NONE"].contains(&shown), "{action}");

    let listed = api.get("/api/v1/machines").await;
    let listed = &listed["items"][0];
    assert_eq!(listed["id"], machine.as_str());
    assert_eq!(listed["status"], "ONLINE", "{listed}");
    let sample = &listed["latestSample"];
    assert!(
        sample["memory"]["total"].as_u64().expect("memory") > 1 << 20,
        "{sample}"
    );
    assert!(
        sample["uptimeSeconds"].as_u64().expect("uptime") > 0
            && sample["processes"].as_u64().expect("processes") > 1,
        "{sample}"
    );
    assert!(
        !sample["cpu"]["cores"].as_array().expect("cores").is_empty()
            && !sample["disks"].as_array().expect("disks").is_empty(),
        "{sample}"
    );
    let disk = sample["disks"]
        .as_array()
        .expect("disks")
        .iter()
        .filter_map(|disk| disk["percent"].as_f64())
        .fold(0.0, f64::max);
    let expected = domain::health::health(
        sample["cpu"]["percent"].as_f64().unwrap(),
        sample["memory"]["percent"].as_f64().unwrap(),
        disk,
    );
    assert_eq!(listed["health"]["score"], expected.score, "{listed}");

    let samples = api
        .get(&format!("/api/v1/machines/{machine}/samples"))
        .await;
    assert!(!samples["items"].as_array().expect("items").is_empty());
    let status = api.get("/api/status").await;
    assert!(status.is_object(), "{status}");
}

#[tokio::test]
async fn the_readme_says_what_works() {
    let product = Product::start(1);
    let readme = std::fs::read_to_string(dashfleet_tests::product::repository().join("README.md"))
        .expect("README.md");
    let talk = readme.split("## Talk to it").nth(1).expect("a section");
    let script = talk
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a script");
    let clone = testkit::Folder::new("readme");
    std::os::unix::fs::symlink(product.folder(), clone.path().join(".dashfleet")).expect("a link");
    let output = std::process::Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(clone.path())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let answers: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(answers[0]["items"][0]["status"], "ONLINE", "{said}");
    assert_eq!(answers[1]["status"], "SUCCEEDED", "{said}");
    assert_eq!(answers[2]["status"], "COMPLETED", "{said}");
}

/// `cargo xtask` builds the launcher alone, and the launcher's own build of the workspace another one in its place.
#[test]
fn a_build_that_replaces_the_launcher_does_not_stop_it() {
    let scratch = testkit::Folder::new("replaced");
    let built = dashfleet_tests::product::program("xtask");
    let built = built.parent().expect("a folder");
    let target = scratch.path().join("target");
    let folder = target.join("debug");
    std::fs::create_dir_all(&folder).expect("a folder");
    for entry in std::fs::read_dir(built).expect("the programs") {
        let path = entry.expect("a program").path();
        let name = path.file_name().expect("a name");
        if name.to_string_lossy().starts_with("dashfleet-") {
            std::os::unix::fs::symlink(&path, folder.join(name)).expect("a link");
        }
    }
    let tools = built.join("../tools");
    if tools.is_dir() {
        std::os::unix::fs::symlink(tools, target.join("tools")).expect("a link");
    }
    let launcher = folder.join("xtask");
    std::fs::copy(built.join("xtask"), &launcher).expect("a copy");
    let cargo = scratch.path().join("cargo");
    let build = format!(
        "#!/bin/sh\ncp '{0}' '{0}.new' && mv '{0}.new' '{0}'\n",
        launcher.display()
    );
    std::fs::write(&cargo, build).expect("a script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&cargo, executable).expect("a mode");
    let xtask = |arguments: &[&str]| {
        let output = std::process::Command::new(&launcher)
            .env("CARGO", &cargo)
            .env_remove("DASHFLEET_BUILT")
            .args(arguments)
            .arg("--data")
            .arg(scratch.path().join("data"))
            .current_dir(dashfleet_tests::product::repository())
            .output()
            .expect("the launcher");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let port = testkit::folder::free_port().to_string();
    xtask(&["up", "--detach", "--http", &port]);
    xtask(&["down"]);
}

#[tokio::test]
async fn offline_machines_catch_up_in_order_and_leave_out_what_expired() {
    let product = Product::start(1);
    let api = product.api();
    let mut agent = TestAgent::enroll(&product, "offline");
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    agent.kill();
    api.machine_is(&agent.machine, "OFFLINE", PATIENCE).await;

    let mut kept = Vec::new();
    let mut expiring = Vec::new();
    for place in 0..50 {
        let mut body = json!({ "machineId": agent.machine, "kind": if place % 3 == 0 { "message" } else { "ping" }, "payload": if place % 3 == 0 { json!({ "message": format!("number {place}") }) } else { json!({}) } });
        let expires = place % 5 == 0;
        if expires {
            let soon = domain::Timestamp::now().plus(chrono::Duration::milliseconds(1_500));
            body["notAfter"] = json!(soon.to_string());
        }
        let (status, action) = api.post("/api/v1/actions", body).await;
        assert_eq!(status, 201, "{action}");
        let id = action["id"].as_str().expect("an id").to_owned();
        if expires {
            expiring.push(id);
        } else {
            kept.push(id);
        }
    }
    for id in &expiring {
        assert_eq!(api.ended(id, PATIENCE).await["status"], "EXPIRED");
    }
    agent.start();
    for id in &kept {
        assert_eq!(api.ended(id, PATIENCE).await["status"], "SUCCEEDED");
    }
    let executed: Vec<_> = agent
        .executions()
        .into_iter()
        .map(|execution| execution.action)
        .collect();
    assert_eq!(
        executed, kept,
        "executed in the order of creation, without the expired ones"
    );
}

#[tokio::test]
async fn a_cancel_that_races_delivery_is_recorded_as_what_the_agent_did() {
    let product = Product::start(1);
    let api = product.api();
    let mut agent = TestAgent::enroll(&product, "cancel");
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let (mut cancelled, mut done) = (0, 0);
    for round in 0..200_u64 {
        let id = api.action(&agent.machine, "ping", json!({})).await;
        tokio::time::sleep(Duration::from_micros(round * 37 % 4_000)).await;
        let (status, body) = api
            .post(&format!("/api/v1/actions/{id}/cancel"), json!({}))
            .await;
        assert!(
            [200, 202, 409].contains(&status.as_u16()),
            "{status} {body}"
        );
        let ended = api.ended(&id, PATIENCE).await;
        let executions = agent
            .executions()
            .iter()
            .filter(|execution| execution.action == id)
            .count();
        match ended["status"].as_str() {
            Some("CANCELLED") => {
                assert_eq!(executions, 0, "{ended}");
                cancelled += 1;
            }
            Some("SUCCEEDED") => {
                assert_eq!(executions, 1, "{ended}");
                done += 1;
            }
            other => panic!("{other:?}: {ended}"),
        }
    }
    println!("200 races: {cancelled} cancelled, {done} done");
}

#[tokio::test]
async fn revoking_cuts_a_live_agent_within_a_second() {
    let product = Product::start(1);
    let api = product.api();
    let mut agent = TestAgent::enroll(&product, "revoked");
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;
    let port = product.dev()["natsUrl"]
        .as_str()
        .and_then(|url| url.rsplit(':').next())
        .and_then(|port| port.parse::<u16>().ok())
        .expect("a port");
    let pid = agent.pid().expect("a pid");
    assert!(connected(pid, port), "the agent is connected before");
    let start = std::time::Instant::now();
    let (status, body) = api
        .send(
            reqwest::Method::DELETE,
            &format!("/api/v1/machines/{}", agent.machine),
            &[],
            None,
        )
        .await
        .expect("an answer");
    assert_eq!(status, 204, "{body}");
    testkit::eventually("the connection is cut", Duration::from_secs(1), || async {
        (!connected(pid, port)).then_some(())
    })
    .await;
    println!("cut {:?} after the request began", start.elapsed());
    api.machine_is(&agent.machine, "REVOKED", PATIENCE).await;
    let code = testkit::eventually("the agent says that it was revoked", PATIENCE, || {
        let code = agent.exit_code();
        async move { code }
    })
    .await;
    assert_eq!(code, 68, "revoked has its own exit code");
    let log = std::fs::read_to_string(agent.folder.join("agent.log")).expect("a log");
    assert!(log.contains("revoked"), "{log}");
    // Nobody is told that all is well: neither who looks, nor who enrols it again.
    for (arguments, said) in [
        (vec!["status"], "revoked       yes"),
        (
            vec!["enroll", "--url", &api.url],
            "dashfleet-agent uninstall",
        ),
    ] {
        let called = agent.command().args(&arguments).output();
        let called = called.expect("the agent");
        let words = [called.stdout, called.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert_eq!(called.status.code(), Some(68), "{arguments:?}: {words}");
        assert!(words.contains(said), "{arguments:?}: {words}");
    }
}

/// Whether a process holds a TCP connection to a local port, from the kernel's own tables.
fn connected(pid: i32, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    let inodes: Vec<String> = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields.get(2)?.ends_with(&wanted) && *fields.get(3)? == "01")
                .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect();
    std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| inodes.iter().any(|inode| link.to_string_lossy() == *inode))
    })
}

#[tokio::test]
async fn a_copied_folder_refuses_elsewhere_and_a_cloned_disk_is_quarantined() {
    let product = Product::start(1);
    let api = product.api();
    let mut original = TestAgent::enroll(&product, "original");
    original.start();
    api.machine_is(&original.machine, "ONLINE", PATIENCE).await;
    let id = api.action(&original.machine, "ping", json!({})).await;
    assert_eq!(api.ended(&id, PATIENCE).await["status"], "SUCCEEDED");

    // Elsewhere: the same folder, another machine-id.
    let elsewhere = product.folder().join("agent-elsewhere");
    copy(&original.folder, &elsewhere);
    std::fs::write(
        elsewhere.join("machine-id"),
        format!("{}\n", uuid::Uuid::new_v4().simple()),
    )
    .expect("a file");
    let copied = copy_of(&original, &elsewhere);
    let output = copied.command().arg("run").output().expect("the agent");
    assert_eq!(
        output.status.code(),
        Some(67),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("another machine"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // A cloned disk: everything the same.
    let clone = product.folder().join("agent-clone");
    copy(&original.folder, &clone);
    let mut cloned = copy_of(&original, &clone);
    cloned.start();
    let machine = api
        .machine_is(&original.machine, "QUARANTINED", Duration::from_secs(30))
        .await;
    assert!(
        !machine["statusReason"]
            .as_str()
            .expect("a reason")
            .is_empty()
    );
    // Nothing is offered any more.
    let id = api.action(&original.machine, "ping", json!({})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        api.get(&format!("/api/v1/actions/{id}")).await["status"],
        "QUEUED"
    );
    // An operator decides: with the clone gone, the machine works again.
    cloned.kill();
    let (status, body) = api
        .post(
            &format!("/api/v1/machines/{}/release", original.machine),
            json!({}),
        )
        .await;
    assert!(status.is_success(), "{status} {body}");
    assert_eq!(
        api.ended(&id, Duration::from_secs(90)).await["status"],
        "SUCCEEDED"
    );
}

fn copy_of(agent: &TestAgent, folder: &std::path::Path) -> TestAgent {
    TestAgent::at(folder.to_owned(), agent.machine.clone())
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp");
    assert!(copied.success());
    // The original's lock is the original's.
}

//! The agent's program where it cannot go on: refused, revoked, without a disk, wrongly configured.

use std::time::Duration;

use contract::order::{Task, Verb};
use domain::action::{ActionKind, Outcome};
use serde_json::json;

use super::journal::TinyDisk;
use super::program::task;
use super::world::{Running, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_refuses_is_said_in_plain_words() {
    let world = World::new().await;
    world.owners().refuse = true;
    let agent = world.enrol();
    let mut running = agent.start();
    let plain = || {
        let said = running.said();
        async move { said.contains("refuses this machine's key").then_some(()) }
    };
    testkit::eventually("plain words", super::world::PATIENCE, plain).await;
    assert!(
        running.child.try_wait().unwrap().is_none(),
        "it keeps trying: {}",
        running.said()
    );
    world.owners().refuse = false;
    world.until_synced(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_machine_says_so_and_ends() {
    let world = World::new().await;
    world.owners().refuse = true;
    let (url, server) = super::enrolment::serve(None);
    server.lock().unwrap().revoked = true;
    let folder = testkit::Folder::new("agent");
    let agent = world.enrol_in(folder.path(), &url);
    let mut running = agent.start();
    assert_eq!(running.code().await, 68, "{}", running.said());
    assert!(
        running.said().contains("revoked this machine's key"),
        "{}",
        running.said()
    );
    // Whoever asks later is told too, also while the server is away.
    server.lock().unwrap().go_away();
    let call = |arguments: &[&str]| {
        let (program, machine_id) = (super::care::PROGRAM, agent.path.join("machine-id"));
        let program = std::path::Path::new(program);
        let output = super::care::call(program, &agent.state(), &machine_id, arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, shown, _) = call(&["status"]);
    assert_eq!(code, Some(68), "{shown}");
    assert!(
        shown.contains("revoked       yes, the server said so at 2"),
        "{shown}"
    );
    let (_, shown, _) = call(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(status["revoked"]["heardAt"].is_string(), "{status}");
    let (code, _, said) = call(&["enroll", "--url", &url]);
    assert_eq!(code, Some(68), "{said}");
    assert!(
        said.contains("revoked this machine's key") && said.contains("dashfleet-agent uninstall"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_the_server_lets_in_is_not_revoked_any_more() {
    let world = World::new().await;
    let agent = world.enrol();
    let state = agent.state();
    std::fs::write(
        state.join("revoked.json"),
        r#"{ "heardAt": "2026-01-01T00:00:00.000Z" }"#,
    )
    .unwrap();
    let revoked = || {
        let status = dashfleet_agent::care::status::Status::look(&state).unwrap();
        status.revoked.is_some()
    };
    assert!(revoked());
    let _running = agent.start();
    world.until_synced(0).await;
    assert!(!revoked());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_new_actions_are_refused_and_that_is_reported() {
    let Some(disk) = TinyDisk::mount("6m") else {
        eprintln!("this test mounts a small file system, which takes root");
        return;
    };
    let world = World::new().await;
    let below = disk.0.path().join("agent");
    std::fs::create_dir(&below).unwrap();
    let agent = world.enrol_in(&below, "http://127.0.0.1:1");
    let _running = agent.start();
    world.until_synced(0).await;
    // Somebody else takes the rest of the disk.
    let filled = std::fs::write(disk.0.path().join("rest"), vec![1; 6 * 1024 * 1024]);
    assert!(filled.is_err(), "the disk is full");
    let text = "🙂".repeat(4_000);
    let mut refused = None;
    for seq in 1..=300 {
        let message = Task {
            payload: json!({ "message": text }),
            ..task(seq, ActionKind::Message)
        };
        world.ring(&agent, Verb::New, &message).await;
        let result = world.result(message.action).await;
        if result.outcome == Outcome::Failed {
            refused = Some((seq, result));
            break;
        }
    }
    let (seq, result) = refused.expect("the journal is full at some time");
    println!("refused at {seq}");
    assert_eq!(result.error.as_ref().unwrap().code, "journal-full");
    // The witness finds no room either; what it has are whole lines.
    assert!(
        agent.executed().iter().all(|line| line.0 != result.action),
        "what was refused was not executed"
    );
    let samples = world.owners().samples.len();
    world
        .until("samples without a disk", |owners| {
            owners.samples.len() > samples + 3
        })
        .await;
    disk.resize("12m");
    std::fs::remove_file(disk.0.path().join("rest")).unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let last = task(seq + 1, ActionKind::Ping);
    world.ring(&agent, Verb::New, &last).await;
    assert_eq!(
        world.result(last.action).await.outcome,
        Outcome::Succeeded,
        "there is room again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_not_to_run_has_its_own_exit_code_and_words() {
    let world = World::new().await;
    let agent = world.enrol();
    let machine_id = agent.path.join("machine-id");
    let other = agent.path.join("other-machine-id");
    std::fs::write(&other, "another").unwrap();
    let policy = agent.path.join("policy.json");
    std::fs::write(&policy, "{").unwrap();
    let empty = agent.path.join("empty");
    let run = |state: std::path::PathBuf,
               id: std::path::PathBuf,
               more: Vec<(&'static str, String)>| async move {
        let more: Vec<_> = more
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut running = Running::start(&["run"], &state, &id, &more);
        (running.code().await, running.said())
    };
    let state = agent.state();
    for (state, id, more, code, words) in [
        (
            &state,
            &machine_id,
            vec![("DASHFLEET_AGENT_SAMPLE_MS", "often".to_owned())],
            64,
            "DASHFLEET_AGENT_SAMPLE_MS",
        ),
        (
            &state,
            &machine_id,
            vec![("DASHFLEET_AGENT_REBOOT", "maybe".to_owned())],
            64,
            "dry-run",
        ),
        (
            &state,
            &machine_id,
            vec![("DASHFLEET_AGENT_POLICY", policy.display().to_string())],
            64,
            "policy.json",
        ),
        (&empty, &machine_id, vec![], 65, "enroll --url"),
        (&state, &other, vec![], 67, "machine-id differs"),
    ] {
        let (found, said) = run(state.clone(), id.clone(), more).await;
        assert_eq!(found, code, "{said}");
        assert!(said.contains(words), "{said}");
    }
    let seed = state.join("seed.nk");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&seed, mode(0o644)).unwrap();
    let (code, said) = run(state.clone(), machine_id.clone(), vec![]).await;
    assert_eq!(code, 69);
    assert!(
        said.contains("seed.nk") && said.contains("mode 644"),
        "{said}"
    );
    std::fs::set_permissions(&seed, mode(0o600)).unwrap();
    let _running = agent.start();
    world.until_synced(0).await;
    let (code, said) = run(state.clone(), machine_id.clone(), vec![]).await;
    assert_eq!(code, 69);
    assert!(said.contains("another agent process"), "{said}");
    let mut wrong = Running::start(&["run", "--nonsense"], &state, &machine_id, &[]);
    assert_eq!(wrong.code().await, 64);
}

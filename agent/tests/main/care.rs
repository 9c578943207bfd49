//! What the machine's owner asks the agent about itself: configuration file, `status`, `diagnose`, logs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dashfleet_agent::care::wrapped;
use dashfleet_agent::config::{AgentConfig, file};
use dashfleet_agent::log_file::{self, LogFile};
use domain::action::ActionKind;
use runtime::Reader;
use serde_json::Value;
use testkit::{Folder, eventually};

use super::program::task;
use super::world::{PATIENCE, World};

/// A file that only its owner can write, in a folder of which the same holds.
pub fn write(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(folder.path(), mode(0o700)).unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, mode(0o600)).unwrap();
    path
}

pub fn read(file: &Path, more: &[(&'static str, &str)]) -> Result<(AgentConfig, String), String> {
    let pairs = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let file = ("DASHFLEET_AGENT_CONFIG", file.display().to_string());
    let mut reader = Reader::from_pairs(pairs.chain([file]));
    let config = AgentConfig::read(&mut reader).map_err(|error| {
        assert_eq!(error.code(), 64);
        error.to_string()
    })?;
    Ok((config, reader.print()))
}

#[test]
fn the_environment_beats_the_file_and_what_is_unknown_there_is_refused_by_name() {
    let folder = Folder::new("config");
    let path = write(
        &folder,
        "agent.json",
        r#"{ "sampleMs": 1000, "inventoryMs": 60000, "processes": true, "state": "/srv/agent" }"#,
    );
    let (config, printed) = read(&path, &[("DASHFLEET_AGENT_SAMPLE_MS", "2000")]).unwrap();
    assert_eq!(config.sample.as_secs(), 2, "the environment");
    assert_eq!(
        (config.inventory.as_secs(), config.optional.processes),
        (60, true)
    );
    assert_eq!(config.state, Path::new("/srv/agent"));
    assert!(
        printed.contains(&format!("DASHFLEET_AGENT_CONFIG={}\n", path.display())),
        "{printed}"
    );
    assert!(
        printed.contains("DASHFLEET_AGENT_STATE=/srv/agent\n"),
        "{printed}"
    );
    for (text, said) in [
        (r#"{ "sampelMs": 1000 }"#, "sampelMs"),
        (r#"{ "token": "dfe_x" }"#, "token"),
        (r#"{ "sampleMs": [1] }"#, "sampleMs"),
        (r#"{ "sampleMs": "soon" }"#, "sampleMs"),
        (r#"{ "processes": "perhaps" }"#, "processes"),
        (
            r#"{ "sampleMs": 10 }"#,
            "sampleMs: `10` is not within 50 to 86400000",
        ),
        (r#"{ "sampleMs": 86400001 }"#, "50 to 86400000"),
        (
            r#"{ "adminAddr": "9100" }"#,
            "adminAddr: `9100` is not HOST:PORT",
        ),
        (r#"{ "log": "agent=loud" }"#, "log: `agent=loud`: "),
        (
            r#"{ "sampleMs": 1000, "state": "/srv", "sampleMs": 2000 }"#,
            "sampleMs: is given twice",
        ),
        ("[]", "not a JSON object"),
        ("{", "agent.json"),
    ] {
        let path = write(&folder, "agent.json", text);
        let error = read(&path, &[]).unwrap_err();
        assert!(
            error.contains(said) && error.contains("agent.json"),
            "{text}: {error}"
        );
    }
    let everybody = write(&folder, "agent.json", "{}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&everybody, mode).unwrap();
    assert!(read(&everybody, &[]).unwrap_err().contains("mode 666"));
    assert!(
        read(&folder.path().join("nothing"), &[]).is_err(),
        "it was named"
    );
    assert!(
        file::read(&folder.path().join("nothing"), false)
            .unwrap()
            .is_empty()
    );
}

/// Calls the agent's program; its output.
pub fn call(program: &Path, state: &Path, machine_id: &Path, arguments: &[&str]) -> Output {
    let policy = state.with_extension("policy.json");
    let config = state.with_extension("agent.json");
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("DASHFLEET_AGENT_STATE", state)
        .env("DASHFLEET_AGENT_MACHINE_ID", machine_id)
        .env("DASHFLEET_AGENT_POLICY", policy)
        .envs(
            config
                .exists()
                .then_some(("DASHFLEET_AGENT_CONFIG", config)),
        )
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dashfleet-agent");

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_and_what_was_refused_last() {
    let world = World::new().await;
    let agent = world.enrol();
    let (state, machine_id) = (agent.state(), agent.path.join("machine-id"));
    let status = || {
        let output = call(
            Path::new(PROGRAM),
            &state,
            &machine_id,
            &["status", "--json"],
        );
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let before = status();
    assert_eq!(
        (&before["enrolled"], &before["running"]),
        (&true.into(), &false.into())
    );
    assert!(before["agent"].is_null());
    let mut running = agent.start();
    world.until_synced(0).await;
    eventually("it says that it is connected", PATIENCE, || async {
        let status = status();
        (status["running"] == true && status["agent"]["connection"] == "CONNECTED").then_some(())
    })
    .await;
    let ping = task(1, ActionKind::Ping);
    let signed = world.signed(&world.enrol(), contract::order::Verb::New, Some(ping));
    world
        .publish(&agent, contract::order::Verb::New, &signed)
        .await;
    let refused = eventually("it says what it refused", PATIENCE, || async {
        status()["agent"]["lastRefused"]["reason"]
            .as_str()
            .map(ToOwned::to_owned)
    })
    .await;
    assert!(refused.contains("addressed to another"), "{refused}");
    let shown = call(Path::new(PROGRAM), &state, &machine_id, &["status"]);
    let shown = text(&shown);
    assert!(
        // A subject alone may be longer than what is left of a line.
        shown
            .lines()
            .all(|line| line.chars().count() <= 80 || !line.trim_start().contains(' ')),
        "{shown}"
    );
    assert!(
        shown.contains("connected     yes") && shown.contains("last refused"),
        "{shown}"
    );
    running.kill();
    eventually("it is gone", PATIENCE, || async {
        (status()["running"] == false).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnose_says_what_is_wrong_and_what_to_do() {
    let folder = Folder::new("diagnose");
    let state = folder.path().join("state");
    let machine_id = write(&folder, "machine-id", "1");
    write(&folder, "state.policy.json", "{}");
    let output = call(Path::new(PROGRAM), &state, &machine_id, &["diagnose"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("WRONG This machine is not enrolled.\n      Get an enrolment token"),
        "{said}"
    );

    let world = World::new().await;
    let agent = world.enrol();
    let _running = agent.start();
    world.until_synced(0).await;
    let (state, machine_id) = (agent.state(), agent.path.join("machine-id"));
    let diagnose = || {
        let output = call(Path::new(PROGRAM), &state, &machine_id, &["diagnose"]);
        (output.status.code(), text(&output))
    };
    let (code, said) = diagnose();
    assert_eq!(code, Some(1), "{said}");
    for well in [
        "ok    The policy",
        "ok    An agent is running",
        "ok    The state folder is this machine's.",
        "ok    The bus nats",
    ] {
        assert!(said.contains(well), "{well}: {said}");
    }
    assert!(
        said.contains("WRONG The server http"),
        "there is none in this world: {said}"
    );
    assert!(
        said.lines()
            .all(|line| line.chars().count() <= 80 || !line.trim_start().contains(' ')),
        "{said}"
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(state.join("seed.nk"), mode).unwrap();
    let said = || {
        let words: Vec<_> = diagnose().1.split_whitespace().map(str::to_owned).collect();
        words.join(" ")
    };
    assert!(said().contains("chmod 600"), "as `run` says: {}", said());
    std::fs::set_permissions(
        state.join("seal.json"),
        std::os::unix::fs::PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    assert!(said().contains("chmod -R go="), "{}", said());
}

/// What `diagnose` says, in one line.
pub fn diagnosed(folder: &Folder, state: &Path) -> String {
    let machine_id = write(folder, "machine-id", "1");
    let output = call(Path::new(PROGRAM), state, &machine_id, &["diagnose"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn diagnose_says_what_is_no_folder_and_which_policy_allows_nothing() {
    let folder = Folder::new("diagnose");
    let file = write(&folder, "passwd", "root:x:0:0");
    for kinds in ["[]", r#"["some-day"]"#] {
        let policy = format!(r#"{{ "kinds": {kinds} }}"#);
        write(&folder, "passwd.policy.json", &policy);
        let said = diagnosed(&folder, &file);
        assert!(
            said.contains("passwd is not a folder. Name the agent's state folder, by --state"),
            "{said}"
        );
        assert!(said.contains("allows nothing: its `kinds`"), "{said}");
        assert!(!said.contains("not enrolled"), "{said}");
    }
}

#[test]
fn a_torn_enrolment_is_named_with_what_is_wrong_and_what_to_do() {
    let folder = Folder::new("diagnose");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    write(&folder, "state.policy.json", "{}");
    for (torn, damage) in [
        ("", "ends in the middle"),
        ("{ \"url\": \"https://fle", "ends in the middle"),
        ("\0\0\0\0", "is not what the agent writes there"),
        ("{ \"url\": 5 }", "is not what the agent writes there"),
    ] {
        std::fs::write(state.join("enrolment.json"), torn).unwrap();
        let error = dashfleet_agent::state::enrolment::Enrolment::look(&state).unwrap_err();
        assert_eq!(error.code(), 69);
        for part in [
            "state/enrolment.json: ",
            damage,
            "run `dashfleet-agent enroll`",
        ] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let said = diagnosed(&folder, &state);
        assert!(
            said.contains(damage) && said.contains("Do what the text says"),
            "{said}"
        );
    }
}

#[test]
fn a_log_file_is_bounded_and_keeps_a_few_older_ones() {
    let folder = Folder::new("log");
    let path = folder.path().join("agent.log");
    let log = LogFile::open(&path, 1_000).unwrap();
    for number in 0..205 {
        writeln!(&log, "line {number:>94}").unwrap();
    }
    let all = log_file::all(&path);
    assert_eq!(all.len(), 5);
    let there = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(there, 5, "this one and four older ones");
    let lines: Vec<_> = all
        .iter()
        .rev()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.len() <= 1_000);
            text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(lines.last().unwrap().ends_with(" 204") && lines.is_sorted());
    // A new life goes on where the old one ended.
    drop(log);
    let log = LogFile::open(&path, 1_000).unwrap();
    writeln!(&log, "again").unwrap();
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("204\nagain")
    );
}

#[test]
fn texts_are_wrapped_at_eighty_columns() {
    let text = wrapped(&"word ".repeat(40), 6);
    assert!(
        text.lines()
            .all(|line| line.len() <= 80 && !line.ends_with(' '))
    );
    assert!(
        text.lines()
            .skip(1)
            .all(|line| line.starts_with("      word"))
    );
}

//! `enroll` against a server of the test's own that checks the proof as identity does.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use contract::identity::{Enroll, Enrolled, StandingGet, enrollment_message, standing_message};
use contract::order::fingerprint;
use dashfleet_agent::care::status::Status;
use dashfleet_agent::config::{AgentConfig, EnrollOptions};
use dashfleet_agent::enroll::enroll;
use dashfleet_agent::error::AgentError;
use dashfleet_agent::state::StateFolder;
use dashfleet_agent::state::keys::PinnedKeys;
use domain::{DeploymentId, MachineId, OrgId, Timestamp};
use nkeys::KeyPair;
use runtime::Reader;
use serde_json::{Value, json};
use testkit::Folder;

/// What the server answers, instead of doing its work, and how often.
pub type Instead = (u16, Value, u32);

#[derive(Default)]
pub struct Server {
    instead: Option<Instead>,
    enrolled: HashMap<String, Enrolled>,
    tokens: Vec<String>,
    asked: u32,
    /// The keys whose orders it names; one of its own when there are none.
    action_keys: Vec<String>,
    /// Whether it is a server of before, which says them at the end only.
    says_keys_late: bool,
    /// Whether it says of every key that it is revoked.
    pub revoked: bool,
}

/// A server for one test; its address.
pub fn serve(instead: Option<Instead>) -> (String, Arc<Mutex<Server>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Arc::new(Mutex::new(Server {
        instead,
        ..Server::default()
    }));
    let shared = Arc::clone(&server);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            stream.read_line(&mut first).unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let path = first.split_whitespace().nth(1).unwrap();
            let (status, answer) = shared.lock().unwrap().answer(path, &body);
            let answer = answer.to_string();
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            stream.get_mut().write_all(text.as_bytes()).unwrap();
        }
    });
    (url, server)
}

impl Server {
    /// From now on it answers nothing.
    pub fn go_away(&mut self) {
        self.instead = Some((503, json!({ "detail": "away" }), u32::MAX));
    }

    fn answer(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
        self.asked += 1;
        if let Some((status, answer, left)) = &mut self.instead
            && *left > 0
        {
            *left -= 1;
            return (*status, answer.clone());
        }
        match path {
            "/api/v1/agents/enroll/challenge" => {
                let mut challenged =
                    json!({ "challenge": "c-1", "expiresAt": "2030-01-01T00:00:00Z" });
                if !self.says_keys_late && !self.action_keys.is_empty() {
                    let keys: Vec<_> = self
                        .action_keys
                        .iter()
                        .map(|key| fingerprint(key))
                        .collect();
                    challenged["actionKeys"] = json!(keys);
                }
                (200, challenged)
            }
            "/api/v1/agents/enroll" if self.revoked => {
                (403, json!({ "detail": "this machine was revoked" }))
            }
            "/api/v1/agents/enroll" => {
                let request: Enroll = serde_json::from_slice(body).unwrap();
                let message =
                    enrollment_message(&request.challenge, &request.token, &request.public_key);
                let key = KeyPair::from_public_key(&request.public_key).unwrap();
                key.verify(&message, &STANDARD.decode(&request.signature).unwrap())
                    .expect("the proof holds");
                assert!(
                    !request.hostname.is_empty()
                        && request.inventory.cpu_cores > 0
                        && request.inventory.memory_total > 0
                );
                assert_eq!(request.labels.get("env").map(String::as_str), Some("prod"));
                self.tokens.push(request.token.clone());
                let mut action_keys = self.action_keys.clone();
                if action_keys.is_empty() {
                    action_keys.push(KeyPair::new_service().public_key());
                }
                let enrolled =
                    self.enrolled
                        .entry(request.public_key)
                        .or_insert_with(|| Enrolled {
                            organization_id: OrgId::new(),
                            machine_id: MachineId::new(),
                            deployment_id: DeploymentId::new(),
                            nats_urls: vec!["nats://127.0.0.1:1".into()],
                            nats_ca: None,
                            action_keys,
                        });
                (201, serde_json::to_value(enrolled).unwrap())
            }
            "/api/v1/agents/standing" => {
                let request: StandingGet = serde_json::from_slice(body).unwrap();
                let key = KeyPair::from_public_key(&request.public_key).unwrap();
                let message = standing_message(&request.challenge, &request.public_key);
                key.verify(&message, &STANDARD.decode(&request.signature).unwrap())
                    .expect("the proof holds");
                let standing = if self.revoked { "REVOKED" } else { "ENROLLED" };
                (200, json!({ "standing": standing }))
            }
            other => (404, json!({ "title": format!("no {other}") })),
        }
    }
}

fn config(folder: &Folder) -> (AgentConfig, PathBuf) {
    let machine_id = folder.path().join("machine-id");
    std::fs::write(&machine_id, "0123456789abcdef\n").unwrap();
    let state = folder.path().join("state");
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_AGENT_STATE", state.display().to_string()),
        (
            "DASHFLEET_AGENT_MACHINE_ID",
            machine_id.display().to_string(),
        ),
    ]);
    (AgentConfig::read(&mut reader).unwrap(), state)
}

fn options(url: &str) -> EnrollOptions {
    EnrollOptions {
        url: url.into(),
        token: Some("dfe_token".to_owned().into()),
        token_file: None,
        state: None,
        action_key: None,
        labels: vec!["env=prod".into()],
    }
}

#[tokio::test]
async fn a_machine_proves_its_key_and_takes_its_place() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    let enrolment = enroll(&config, &options(&format!("{url}/"))).await.unwrap();
    assert_eq!(enrolment.url, url);
    let seed = std::fs::read_to_string(state.join("seed.nk")).unwrap();
    assert_eq!(
        KeyPair::from_seed(seed.trim()).unwrap().public_key(),
        enrolment.public_key
    );
    // Enrolled is enrolled: the server is asked whether it still accepts the key, and nothing else.
    let asked = server.lock().unwrap().asked;
    assert_eq!(enroll(&config, &options(&url)).await.unwrap(), enrolment);
    assert_eq!(server.lock().unwrap().asked, asked + 2);
    assert_eq!(server.lock().unwrap().tokens.len(), 1);
    // While it is away the enrolment stands.
    server.lock().unwrap().go_away();
    assert_eq!(enroll(&config, &options(&url)).await.unwrap(), enrolment);
    let elsewhere = enroll(&config, &options("http://127.0.0.1:9"))
        .await
        .unwrap_err();
    assert_eq!(elsewhere.code(), 73);
}

#[tokio::test]
async fn enrolling_a_revoked_machine_again_says_that_it_is_revoked_and_what_to_do() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    enroll(&config, &options(&url)).await.unwrap();
    assert!(Status::look(&state).unwrap().revoked.is_none());
    server.lock().unwrap().revoked = true;
    let error = enroll(&config, &options(&url)).await.unwrap_err();
    assert_eq!(error.code(), 68);
    let heard = Status::look(&state).unwrap().revoked.expect("it is kept");
    for part in [
        "revoked this machine's key",
        &heard.heard_at.to_string(),
        "dashfleet-agent uninstall",
        "a new token",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    // The first time is what is remembered, and it is remembered while the server is away.
    server.lock().unwrap().go_away();
    let again = enroll(&config, &options(&url)).await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    // Only the server's own word takes it back: it was restored from a backup, say.
    {
        let mut server = server.lock().unwrap();
        (server.instead, server.revoked) = (None, false);
    }
    enroll(&config, &options(&url)).await.unwrap();
    assert!(Status::look(&state).unwrap().revoked.is_none());
}

#[tokio::test]
async fn after_a_rotation_the_keys_that_are_obeyed_now_are_compared_and_shown() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, _) = serve(None);
    let of_enrolment = enroll(&config, &options(&url)).await.unwrap();
    let old = fingerprint(&of_enrolment.enrolled.action_keys[0]);
    let expecting = |key: &str| EnrollOptions {
        action_key: Some(key.to_owned()),
        ..options(&url)
    };
    enroll(&config, &expecting(&old)).await.unwrap();
    assert_eq!(Status::look(&state).unwrap().action_keys, [old.as_str()]);

    let rotated = KeyPair::new_service().public_key();
    let new = fingerprint(&rotated);
    {
        let held = StateFolder::take(&state, false).unwrap();
        PinnedKeys::read(&held, &of_enrolment.enrolled.action_keys)
            .unwrap()
            .rotated(vec![rotated], Timestamp::now())
            .unwrap()
            .write(&held)
            .unwrap();
    }
    assert_eq!(Status::look(&state).unwrap().action_keys, [new.as_str()]);
    assert_eq!(
        enroll(&config, &expecting(&new)).await.unwrap(),
        of_enrolment
    );
    let error = enroll(&config, &expecting(&old)).await.unwrap_err();
    assert_eq!(error.code(), 66);
    assert!(error.to_string().contains(&new), "{error}");
    // Nobody has named a key: what the machine has pinned stands.
    enroll(&config, &options(&url)).await.unwrap();
}

#[tokio::test]
async fn a_named_key_is_the_only_one_that_is_obeyed() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    let [genuine, strangers] = [(); 2].map(|()| KeyPair::new_service().public_key());
    let expecting = |key: &str| EnrollOptions {
        action_key: Some(key.to_owned()),
        ..options(&url)
    };
    // What is no fingerprint is said before the server makes a machine.
    let error = enroll(&config, &expecting("nonsense")).await.unwrap_err();
    assert_eq!(error.code(), 64);
    assert!(error.to_string().contains("--action-key"), "{error}");
    assert_eq!(server.lock().unwrap().asked, 0);
    // Whoever answers as the server knows the genuine key too: it is no secret.
    server.lock().unwrap().action_keys = vec![genuine.clone(), strangers];
    let enrolment = enroll(&config, &expecting(&fingerprint(&genuine)))
        .await
        .unwrap();
    assert_eq!(
        enrolment.enrolled.action_keys,
        std::slice::from_ref(&genuine)
    );
    let shown = Status::look(&state).unwrap().action_keys;
    assert_eq!(shown, [fingerprint(&genuine)]);
}

#[tokio::test]
async fn a_key_that_nobody_expected_is_refused_before_the_token_is_used() {
    let (url, server) = serve(None);
    let [genuine, expected] = [(); 2].map(|()| KeyPair::new_service().public_key());
    server.lock().unwrap().action_keys = vec![genuine.clone()];
    let expecting = EnrollOptions {
        action_key: Some(fingerprint(&expected)),
        ..options(&url)
    };
    let folder = Folder::new("enrol");
    let (early, state) = config(&folder);
    let error = enroll(&early, &expecting).await.unwrap_err();
    assert_eq!(error.code(), 66);
    for part in [
        "this agent refused the enrolment",
        &fingerprint(&genuine),
        "the token was not used",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert!(!error.to_string().contains("the server refused"), "{error}");
    assert!(server.lock().unwrap().tokens.is_empty());
    assert!(!state.join("enrolment.json").exists());
    // A server that says its keys only at the end is refused then.
    server.lock().unwrap().says_keys_late = true;
    let error = enroll(&early, &expecting).await.unwrap_err();
    assert_eq!(error.code(), 66);
    for part in [
        "this agent refused",
        "the token was used: revoke the machine",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert!(!state.join("enrolment.json").exists());
}

#[tokio::test]
async fn a_revoked_machine_whose_enrolment_is_lost_is_told_so_and_remembers_it() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    enroll(&config, &options(&url)).await.unwrap();
    std::fs::remove_file(state.join("enrolment.json")).unwrap();
    server.lock().unwrap().revoked = true;
    let error = enroll(&config, &options(&url)).await.unwrap_err();
    assert_eq!(error.code(), 68, "{error}");
    assert!(state.join("revoked.json").exists());
}

#[tokio::test]
async fn what_is_no_dashfleet_server_is_not_said_to_have_judged_the_token() {
    for (status, answer) in [
        (200, json!("<html>Welcome to the hotel</html>")),
        (200, json!({ "ok": true })),
        (302, json!("moved")),
        (404, json!("<html>not found</html>")),
        (404, json!({ "message": "no route" })),
    ] {
        let folder = Folder::new("enrol");
        let (url, server) = serve(Some((status, answer, 99)));
        let error = enroll(&config(&folder).0, &options(&url))
            .await
            .unwrap_err();
        assert_eq!(error.code(), 75, "{error}");
        assert!(
            error
                .to_string()
                .contains("does not answer like a DashFleet server"),
            "{error}"
        );
        assert_eq!(
            server.lock().unwrap().asked,
            1,
            "it would say the same again"
        );
    }
}

#[tokio::test]
async fn a_repetition_after_a_crash_is_the_same_machine() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    let first = enroll(&config, &options(&url)).await.unwrap();
    // The crash: the server knows, and the answer was not kept.
    std::fs::remove_file(state.join("enrolment.json")).unwrap();
    let second = enroll(&config, &options(&url)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(server.lock().unwrap().enrolled.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_shown_in_the_servers_words() {
    let problem = json!({
        "type": "about:blank", "title": "Forbidden", "status": 403, "detail": "the enrolment token has expired",
        "errors": [{ "path": "token", "message": "expired at noon" }]
    });
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, _) = serve(Some((403, problem, 1)));
    let error = enroll(&config, &options(&url)).await.unwrap_err();
    assert_eq!(error.code(), 66);
    let words = error.to_string();
    assert!(
        words.contains("the enrolment token has expired")
            && words.contains("token: expired at noon"),
        "{words}"
    );
    assert!(state.join("seed.nk").exists() && !state.join("enrolment.json").exists());
}

#[tokio::test]
async fn a_server_that_is_away_for_a_moment_is_asked_again() {
    let folder = Folder::new("enrol");
    let (config, _) = config(&folder);
    let (url, server) = serve(Some((503, json!({ "detail": "starting" }), 2)));
    enroll(&config, &options(&url)).await.unwrap();
    assert_eq!(server.lock().unwrap().asked, 4);
    let (url, _) = serve(Some((503, json!({ "detail": "starting" }), 99)));
    let other = Folder::new("enrol");
    let error = enroll(&self::config(&other).0, &options(&url))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, AgentError::Unreachable(words) if words.contains("starting")),
        "{error}"
    );
    assert_eq!(error.code(), 75);
}

#[tokio::test]
async fn a_copied_folder_does_not_enrol_and_wrong_options_are_named() {
    let folder = Folder::new("enrol");
    let (config, _) = config(&folder);
    for (change, said) in [
        (
            EnrollOptions {
                url: "ftp://x".into(),
                ..options("")
            },
            "--url",
        ),
        (
            EnrollOptions {
                url: "nonsense".into(),
                ..options("")
            },
            "--url nonsense: has no scheme",
        ),
        (
            options("fleet.example.com:8443"),
            "--url fleet.example.com:8443: has no scheme; did you mean https://fleet",
        ),
        (options(""), "--url: is empty"),
        (options("https://"), "has no host"),
        (options("http://fleet:99999"), "--url http://fleet:99999: "),
        (options("http://fleet/?org=1"), "`?` or `#`"),
        (options("http://ann:secret@fleet"), "--url: has a user name"),
        (
            EnrollOptions {
                labels: vec!["env".into()],
                ..options("http://x")
            },
            "--label env",
        ),
        (
            EnrollOptions {
                labels: vec!["e nv=1".into()],
                ..options("http://x")
            },
            "labels.e nv",
        ),
        (
            EnrollOptions {
                labels: vec!["a=1".into(), "a=2".into()],
                ..options("http://x")
            },
            "twice",
        ),
    ] {
        let error = enroll(&config, &change).await.unwrap_err();
        assert_eq!(error.code(), 64);
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let (url, _) = serve(None);
    enroll(&config, &options(&url)).await.unwrap();
    std::fs::write(config.machine_id.as_ref().unwrap(), "another").unwrap();
    assert_eq!(
        enroll(&config, &options(&url)).await.unwrap_err().code(),
        67
    );
}

#[test]
fn a_token_need_not_stand_on_the_command_line() {
    let folder = Folder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "dfe_file\n").unwrap();
    let with = |token: Option<&str>| {
        let pairs = token.map(|token| ("DASHFLEET_ENROLLMENT_TOKEN", token.to_owned()));
        AgentConfig::read(&mut Reader::from_pairs(pairs)).unwrap()
    };
    let given = |token: Option<&str>, token_file: Option<&std::path::Path>| EnrollOptions {
        token: token.map(|token| token.to_owned().into()),
        token_file: token_file.map(Into::into),
        ..options("")
    };
    let variable = with(Some("dfe_variable"));
    for (options, token) in [
        (given(None, None), "dfe_variable"),
        (given(None, Some(&file)), "dfe_file"),
        (given(Some("dfe_line"), None), "dfe_line"),
    ] {
        assert_eq!(options.token(&variable).unwrap().text(), token);
    }
    let shown = format!("{variable:?} {:?}", given(Some("dfe_line"), None));
    assert!(!shown.contains("dfe_"), "{shown}");
    let error = given(None, None).token(&with(None)).unwrap_err();
    assert_eq!(error.code(), 64);
    assert!(
        error.to_string().contains("DASHFLEET_ENROLLMENT_TOKEN"),
        "{error}"
    );
    let absent = folder.path().join("absent");
    let error = given(None, Some(&absent)).token(&variable).unwrap_err();
    assert!(error.to_string().contains("--token-file"), "{error}");
}

#[tokio::test]
async fn the_program_takes_the_token_from_its_standard_input() {
    let folder = Folder::new("enrol");
    let (config, state) = config(&folder);
    let (url, server) = serve(None);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_dashfleet-agent"))
        .args([
            "enroll",
            "--url",
            &url,
            "--token-file",
            "-",
            "--label",
            "env=prod",
        ])
        .env_clear()
        .env("DASHFLEET_AGENT_STATE", &state)
        .env("DASHFLEET_AGENT_MACHINE_ID", config.machine_id.unwrap())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"dfe_piped\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(server.lock().unwrap().tokens, ["dfe_piped"]);
}

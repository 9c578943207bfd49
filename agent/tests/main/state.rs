//! The state folder: one agent, this machine, keys that nobody else reads.

use std::os::unix::fs::PermissionsExt;

use dashfleet_agent::app::execution_log::ExecutionLog;
use dashfleet_agent::engine::Work;
use dashfleet_agent::journal::record::Key;
use dashfleet_agent::state::StateFolder;
use dashfleet_agent::state::enrolment::MachineKey;
use dashfleet_agent::state::seal::Seal;
use domain::ActionId;
use domain::action::{ActionKind, Payload};
use testkit::Folder;

use super::task::time;

#[test]
fn only_one_agent_uses_a_folder() {
    let folder = Folder::new("state");
    let held = StateFolder::take(folder.path(), true).unwrap();
    let error = StateFolder::take(folder.path(), true).unwrap_err();
    assert_eq!(error.code(), 69);
    assert!(
        error.to_string().contains("another agent process"),
        "{error}"
    );
    drop(held);
    assert!(StateFolder::take(folder.path(), false).is_ok());
}

#[test]
fn the_seed_is_made_once_and_only_its_owner_reads_it() {
    let folder = Folder::new("state");
    let state = StateFolder::take(&folder.path().join("new"), true).unwrap();
    let mode = |name: &str| {
        std::fs::metadata(state.file(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert!(MachineKey::read(&state).unwrap().is_none());
    let key = MachineKey::read_or_make(&state).unwrap();
    assert_eq!(mode("seed.nk"), 0o600);
    assert_eq!(mode("."), 0o700);
    assert_eq!(
        MachineKey::read_or_make(&state).unwrap().pair.public_key(),
        key.pair.public_key()
    );
    assert!(
        !format!("{key:?}").contains(&key.seed),
        "it is not shown by accident either"
    );
}

#[test]
fn a_key_that_others_may_read_is_not_used() {
    let folder = Folder::new("state");
    let state = StateFolder::take(folder.path(), true).unwrap();
    let key = MachineKey::read_or_make(&state).unwrap().pair.public_key();
    let path = state.file("seed.nk");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        // An enrolment makes no other key in its place either.
        for used in [
            MachineKey::read(&state).map(|_| ()),
            MachineKey::read_or_make(&state).map(|_| ()),
        ] {
            let error = used.unwrap_err();
            assert_eq!(error.code(), 69);
            for part in ["seed.nk", &format!("mode {mode:o}"), "chmod 600", "revoke"] {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
        assert!(
            MachineKey::look(state.path()).unwrap().is_some(),
            "who only looks says what else is wrong"
        );
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let again = MachineKey::read(&state).unwrap().unwrap();
    assert_eq!(again.pair.public_key(), key);
}

#[test]
fn a_folder_works_on_the_machine_that_made_it() {
    let folder = Folder::new("state");
    let state = StateFolder::take(folder.path(), true).unwrap();
    let here = Seal::of("machine-a", Some("hardware-a"));
    here.apply(&state).unwrap();
    here.apply(&state).unwrap();
    // Who may not read the hardware's id is still on the same machine.
    Seal::of("machine-a", None).apply(&state).unwrap();
    for (machine, hardware, said) in [
        ("machine-b", Some("hardware-a"), "machine-id differs"),
        ("machine-a", Some("hardware-b"), "hardware UUID"),
    ] {
        let error = Seal::of(machine, hardware).apply(&state).unwrap_err();
        assert_eq!(error.code(), 67);
        assert!(error.to_string().contains(said), "{error}");
    }
    let text = std::fs::read_to_string(state.file("seal.json")).unwrap();
    assert!(!text.contains("machine-a"), "only hashes are kept");
}

#[test]
fn a_folder_without_a_seal_is_sealed_by_nobody_but_an_enrolment() {
    let folder = Folder::new("state");
    let state = StateFolder::take(folder.path(), true).unwrap();
    let here = Seal::of("machine-a", None);
    let error = here.verify(&state).unwrap_err();
    assert_eq!(error.code(), 67);
    assert!(
        error.to_string().contains("seal.json is missing"),
        "{error}"
    );
    assert!(!state.file("seal.json").exists());
    here.apply(&state).unwrap();
    here.verify(&state).unwrap();
    assert_eq!(
        Seal::of("machine-b", None)
            .verify(&state)
            .unwrap_err()
            .code(),
        67
    );
}

#[test]
fn the_execution_log_has_a_line_for_each_execution_and_is_bounded() {
    let folder = Folder::new("log");
    let path = folder.path().join("execution.log");
    let key = Key {
        action: ActionId::new(),
        attempt: 1,
    };
    let work = |seq| Work {
        key,
        seq,
        payload: Payload::Ping,
        kind: ActionKind::Ping,
        traceparent: None,
    };
    for seq in 1..=20 {
        // Opened anew each time, as after a crash.
        ExecutionLog::open(&path, 1_024)
            .unwrap()
            .note(&work(seq), time(seq))
            .unwrap();
    }
    let old = std::fs::read_to_string(folder.path().join("execution.log.1")).unwrap();
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(old.len() <= 1_024 && new.len() <= 1_024);
    let line: serde_json::Value = serde_json::from_str(new.lines().last().unwrap()).unwrap();
    let expected = serde_json::json!({ "at": time(20), "action": key.action, "attempt": 1, "seq": 20, "kind": "ping" });
    assert_eq!(line, expected);
}

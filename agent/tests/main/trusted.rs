//! A state folder that somebody else could have written, or whose key is damaged: what `run` and `diagnose` say.

use std::path::Path;

use dashfleet_agent::state::StateFolder;
use testkit::Folder;

use super::care::{PROGRAM, call, diagnosed, text, write};

#[test]
fn what_everybody_can_write_is_not_run() {
    let folder = Folder::new("trusted");
    let state = folder.path().join("state");
    let held = StateFolder::take(&state, true).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    for name in ["enrolment.json", "seal.json", "action-keys.json"] {
        let path = state.join(name);
        std::fs::write(&path, "{}").unwrap();
        mode(&path, 0o600);
        held.check_trusted().unwrap();
        mode(&path, 0o666);
        let error = held.check_trusted().unwrap_err();
        assert_eq!(error.code(), 69);
        for part in [name, "mode 666", "chmod -R go="] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        mode(&path, 0o600);
    }
    mode(&state, 0o777);
    let error = held.check_trusted().unwrap_err().to_string();
    assert!(error.contains("its folder"), "{error}");
    // And `run` asks.
    drop(held);
    let machine_id = write(&folder, "machine-id", "1");
    write(&folder, "state.policy.json", "{}");
    mode(folder.path(), 0o700);
    let output = call(Path::new(PROGRAM), &state, &machine_id, &["run"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(text(&output).contains("its folder"), "{}", text(&output));
}

#[test]
fn diagnose_names_a_damaged_key_and_starts_nobody_who_was_revoked() {
    let folder = Folder::new("diagnose");
    let state = folder.path().join("state");
    drop(StateFolder::take(&state, true).unwrap());
    write(&folder, "state.policy.json", "{}");
    let enrolment = serde_json::json!({
        "url": "http://127.0.0.1:1",
        "publicKey": "U",
        "enrolled": {
            "organizationId": domain::OrgId::new(),
            "machineId": domain::MachineId::new(),
            "deploymentId": domain::DeploymentId::new(),
            "natsUrls": [],
            "actionKeys": [],
        },
    });
    std::fs::write(state.join("enrolment.json"), enrolment.to_string()).unwrap();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    std::fs::write(state.join("seed.nk"), &seed[..30]).unwrap();
    let said = diagnosed(&folder, &state);
    assert!(
        said.contains("seed.nk: the file is damaged") && !said.contains("Run this as root"),
        "{said}"
    );
    assert!(said.contains("systemctl start"), "{said}");
    let revoked = r#"{ "heardAt": "2026-01-01T00:00:00Z" }"#;
    std::fs::write(state.join("revoked.json"), revoked).unwrap();
    let said = diagnosed(&folder, &state);
    assert!(
        !said.contains("systemctl start") && said.contains("dashfleet-agent uninstall"),
        "{said}"
    );
}

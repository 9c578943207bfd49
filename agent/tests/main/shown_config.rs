//! The configuration as it is read and shown, wherever a value comes from.

use std::path::Path;

use testkit::Folder;

use super::care::{PROGRAM, call, read, text, write};

#[test]
fn the_range_of_a_period_is_the_same_in_the_environment() {
    let folder = Folder::new("config");
    // Editors on Windows put this mark first.
    let path = write(&folder, "agent.json", "\u{feff}{ \"sampleMs\": 1000 }");
    assert_eq!(read(&path, &[]).unwrap().0.sample.as_secs(), 1);
    for given in ["10", "86400001"] {
        let error = read(&path, &[("DASHFLEET_AGENT_SAMPLE_MS", given)]).unwrap_err();
        assert!(
            error.contains("DASHFLEET_AGENT_SAMPLE_MS: ") && error.contains("50 to 86400000"),
            "{error}"
        );
    }
}

#[test]
fn the_configuration_that_is_shown_is_the_one_that_would_hold() {
    let folder = Folder::new("config");
    let state = folder.path().join("state");
    let machine_id = write(&folder, "machine-id", "1");
    let arguments = ["run", "--state", "/srv/elsewhere", "--print-config"];
    let output = call(Path::new(PROGRAM), &state, &machine_id, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("DASHFLEET_AGENT_STATE=/srv/elsewhere\n"),
        "{}",
        text(&output)
    );
    for (wrong, named) in [
        (r#"{ "adminAddr": "9100" }"#, "adminAddr"),
        (r#"{ "log": "agent=loud" }"#, "log"),
    ] {
        write(&folder, "state.agent.json", wrong);
        let output = call(Path::new(PROGRAM), &state, &machine_id, &arguments);
        assert_eq!(output.status.code(), Some(64), "{}", text(&output));
        assert!(text(&output).contains(named), "{}", text(&output));
    }
}

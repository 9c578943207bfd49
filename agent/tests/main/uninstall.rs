//! `uninstall`: what is installed goes, and nothing else.

use testkit::Folder;

use super::care::{PROGRAM, call, text, write};

#[test]
fn uninstall_asks_first_and_leaves_nothing_of_what_the_agent_made() {
    let folder = Folder::new("uninstall");
    let program = folder.path().join("dashfleet-agent");
    std::fs::copy(PROGRAM, &program).unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("seed.nk"), "x").unwrap();
    let machine_id = write(&folder, "machine-id", "1");
    let config = write(&folder, "state.agent.json", "{}");
    write(&folder, "state.policy.json", "{}");
    let output = call(&program, &state, &machine_id, &["uninstall"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert!(text(&output).contains("--yes") && state.exists() && program.exists());
    let output = call(&program, &state, &machine_id, &["uninstall", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!state.exists() && !config.exists());
    assert!(
        program.exists() && text(&output).contains("it was not installed here"),
        "{}",
        text(&output)
    );
}

#[test]
fn uninstall_removes_nothing_where_nothing_is_installed() {
    let folder = Folder::new("uninstall");
    let program = folder.path().join("dashfleet-agent");
    std::fs::copy(PROGRAM, &program).unwrap();
    let state = folder.path().join("state");
    let machine_id = write(&folder, "machine-id", "1");
    let config = write(&folder, "state.agent.json", "{}");
    let uninstall = || {
        let output = call(&program, &state, &machine_id, &["uninstall", "--yes"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(
            text(&output).contains("Nothing is installed here"),
            "{}",
            text(&output)
        );
        assert!(program.exists() && config.exists());
    };
    uninstall();
    // An empty folder is nobody's state.
    std::fs::create_dir(&state).unwrap();
    uninstall();
    assert!(state.exists());
    // Somebody's folder that is none of an agent stays.
    std::fs::write(state.join("thesis.tex"), "x").unwrap();
    uninstall();
    assert!(state.join("thesis.tex").exists());
}

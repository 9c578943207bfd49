//! `uninstall`: what is installed goes, and nothing else.

use std::os::unix::fs::symlink;
use std::path::Path;

use dashfleet_agent::care::uninstall::{Going, names};
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

#[test]
fn a_unit_names_the_program_also_where_the_way_to_it_is_a_link() {
    let folder = Folder::new("uninstall");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("opt/local/bin")).unwrap();
    symlink(path("opt/local"), path("local")).unwrap();
    let (real, usual) = (path("opt/local/bin/agent"), path("local/bin/agent"));
    std::fs::write(&real, "").unwrap();
    std::fs::write(path("other"), "").unwrap();
    let starts = |program: &Path| {
        write(
            &folder,
            "unit",
            &format!("[Service]\nExecStart={} run\n", program.display()),
        )
    };
    let unit = starts(&usual);
    assert!(names(&unit, &real, &usual));
    assert!(names(&unit, &usual, &usual));
    assert!(!names(&unit, &path("other"), &usual), "another program's");
    let unit = starts(&real);
    assert!(names(&unit, &real, &usual));
    let unit = starts(&path("other"));
    assert!(!names(&unit, &real, &usual));
    assert!(names(&unit, &path("other"), &usual));
    assert!(!names(&path("nothing"), &real, &usual));
}

#[test]
fn what_an_interrupted_uninstall_leaves_still_knows_what_belongs_to_it() {
    let folder = Folder::new("uninstall");
    let state = folder.path().join("state");
    let made = || {
        std::fs::create_dir_all(state.join("samples")).unwrap();
        for file in ["seed.nk", "journal.log", "samples/000000000001.samples"] {
            std::fs::write(state.join(file), "x").unwrap();
        }
    };
    made();
    let [config, unit, program] =
        ["agent.json", "agent.service", "agent"].map(|name| write(&folder, name, "x"));
    let going = Going {
        state: state.clone(),
        files: vec![config.clone()],
        units: vec![unit.clone()],
        program: Some(program.clone()),
    };
    // Something stands in the way: unit and program stay, and with them who can go on.
    std::fs::remove_file(&config).unwrap();
    std::fs::create_dir(&config).unwrap();
    let mut wrong = Vec::new();
    assert_eq!(going.remove(&mut wrong), std::slice::from_ref(&state));
    assert!(wrong.len() == 1 && unit.exists() && program.exists());
    std::fs::remove_dir(&config).unwrap();
    write(&folder, "agent.json", "x");
    made();
    let mut wrong = vec!["the service: it does not end".to_owned()];
    assert_eq!(going.remove(&mut wrong), std::slice::from_ref(&state));
    assert!(wrong.len() == 1 && config.exists() && unit.exists() && program.exists());
    // The order, for whoever is cut off in the middle: unit and program after all the rest.
    made();
    let mut wrong = Vec::new();
    let removed = going.remove(&mut wrong);
    assert_eq!(removed, [state, config, unit, program]);
    assert!(wrong.is_empty() && removed.iter().all(|path| !path.exists()));
}

#[test]
fn the_configuration_stays_as_long_as_the_state_that_it_names() {
    let folder = Folder::new("uninstall");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let log = state.join("agent.log");
    std::fs::write(&log, "x").unwrap();
    let [older, config, unit] =
        ["agent.log.1", "agent.json", "agent.service"].map(|name| write(&folder, name, "x"));
    let files = vec![log.clone(), older.clone(), config.clone()];
    let going = Going {
        state: state.clone(),
        files: files.clone(),
        units: vec![unit.clone()],
        program: None,
    };
    // It has no sign of an agent's state, and is not removed.
    let mut wrong = Vec::new();
    assert!(going.remove(&mut wrong).is_empty());
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(
        files
            .iter()
            .chain([&state, &unit])
            .all(|path| path.exists())
    );
    // A file that stays keeps those after it.
    std::fs::write(state.join("seed.nk"), "x").unwrap();
    std::fs::remove_file(&older).unwrap();
    std::fs::create_dir(&older).unwrap();
    assert_eq!(going.remove(&mut Vec::new()), [state.clone(), log.clone()]);
    assert!(!state.exists() && config.exists() && unit.exists());
    // What is gone already is in nobody's way.
    std::fs::remove_dir(&older).unwrap();
    let mut wrong = Vec::new();
    assert_eq!(going.remove(&mut wrong), [log, older, config, unit]);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn where_the_state_folder_is_a_link_what_it_leads_to_goes_too() {
    for name in ["state", "state/"] {
        let folder = Folder::new("uninstall");
        let real = folder.path().join("real");
        std::fs::create_dir_all(real.join("samples")).unwrap();
        std::fs::write(real.join("seed.nk"), "x").unwrap();
        symlink(&real, folder.path().join("state")).unwrap();
        let going = Going {
            state: folder.path().join(name),
            files: Vec::new(),
            units: Vec::new(),
            program: None,
        };
        let mut wrong = Vec::new();
        assert_eq!(going.remove(&mut wrong), std::slice::from_ref(&going.state));
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(!real.exists() && !folder.path().join("state").is_symlink());
    }
}

//! What a killed launcher leaves behind is ended, and nothing else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use launcher::folder::Folder;
use launcher::orphans;
use launcher::process::Identity;
use launcher::supervisor::Supervisor;
use launcher::supervisor::record::{self, Entry};
use launcher::supervisor::spec::Group;
use launcher::system::Signal;

use crate::{Scratch, eventually, script};

/// Names the folder in which [`plays_a_supervisor`] is to play one.
const PLAY: &str = "DASHFLEET_XTASK_PLAY";

/// Not a test by itself: the supervisor that the test below starts as a process of its own, and kills.
#[test]
fn plays_a_supervisor() {
    let Some(path) = std::env::var_os(PLAY) else {
        return;
    };
    let folder = Folder::at(path.as_ref()).unwrap();
    let _lock = folder.become_supervisor().unwrap();
    let mut supervisor = Supervisor::new(&folder.record(), &folder.join("logs"));
    for (name, group) in [("agent", Group::Agent), ("action", Group::Service)] {
        supervisor
            .start(script(&folder.path, name, group, "exec sleep 600"))
            .unwrap();
    }
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end && supervisor.turn(Duration::from_secs(1)).is_ok() {}
    supervisor.stop();
}

#[test]
fn a_killed_supervisor_leaves_nothing_running() {
    let scratch = Scratch::new();
    let folder = Folder::make(&scratch.join("data")).unwrap();
    // The shell hands on an open file, as a careless caller does.
    let mut supervisor = Command::new("sh")
        .args([
            "-c",
            "exec 9</dev/null; exec \"$0\" --exact orphans::plays_a_supervisor",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(PLAY, &folder.path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut children = Vec::new();
    eventually("the supervisor runs two children", || {
        let entries = record::read(&folder.record()).unwrap();
        children = entries
            .into_iter()
            .filter_map(|entry| entry.identity)
            .collect();
        children.len() == 2
    });
    assert!(children.iter().all(Identity::is_alive));
    let has_file = |pid: u32| Path::new(&format!("/proc/{pid}/fd/9")).exists();
    assert!(has_file(supervisor.id()));
    eventually("children get only the standard streams", || {
        children.iter().all(|child| !has_file(child.pid))
    });
    assert!(folder.supervisor().unwrap().is_some());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    eventually("the children die with their supervisor", || {
        !children.iter().any(Identity::is_alive)
    });
    assert!(folder.supervisor().unwrap().is_none());
    assert_eq!(orphans::end(&folder).unwrap(), 0);
    assert!(record::read(&folder.record()).unwrap().is_empty());
}

fn entry(name: &str, group: Group, identity: Identity) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: name.to_owned(),
        group,
        identity: Some(identity),
        since: 0,
        deaths: 0,
        port: None,
        probe: launcher::health::Probe::Alive,
    }
}

#[test]
fn recorded_processes_are_ended_but_never_a_reused_pid() {
    let scratch = Scratch::new();
    let folder = Folder::make(&scratch.join("data")).unwrap();
    let start = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap();
    let mut orphan = start("exec sleep 600");
    let mut stranger = start("exec sleep 600");
    let identity = |pid| Identity::of(pid).unwrap();
    let mut reused = identity(stranger.id());
    reused.start -= 1;
    let mut of_an_earlier_boot = identity(stranger.id());
    of_an_earlier_boot.boot = "another".to_owned();
    record::write(
        &folder.record(),
        &[
            entry("action", Group::Service, identity(orphan.id())),
            entry("metrics", Group::Service, reused),
            entry("nats", Group::Nats, of_an_earlier_boot),
        ],
    )
    .unwrap();
    // It is our child, so somebody must reap it while it is being waited for.
    let reaper = std::thread::spawn(move || orphan.wait().unwrap());
    assert_eq!(orphans::end(&folder).unwrap(), 1);
    assert!(!reaper.join().unwrap().success());
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "a process that was never ours was ended"
    );
    assert!(identity(stranger.id()).signal(Signal::Kill));
    stranger.wait().unwrap();
}

//! Supervision of real processes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use launcher::error::Error;
use launcher::process::Identity;
use launcher::supervisor::Supervisor;
use launcher::supervisor::record;
use launcher::supervisor::spec::Group;
use launcher::system::Signal;

use crate::{Scratch, eventually, script};

fn supervisor(scratch: &Scratch) -> Supervisor {
    Supervisor::new(&scratch.join("processes.json"), &scratch.path)
}

fn identity(supervisor: &Supervisor, name: &str) -> Option<Identity> {
    let entries = supervisor.entries();
    entries
        .into_iter()
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.identity)
}

#[test]
fn a_killed_child_is_started_again_and_recorded() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    supervisor
        .start(script(
            &scratch.path,
            "action",
            Group::Service,
            "exec sleep 600",
        ))
        .unwrap();
    let first = identity(&supervisor, "action").unwrap();
    assert!(first.signal(Signal::Kill));
    let killed = Instant::now();
    eventually("another process runs", || {
        supervisor.turn(Duration::from_millis(50)).unwrap();
        identity(&supervisor, "action").is_some_and(|now| now != first)
    });
    assert!(
        killed.elapsed() >= Duration::from_millis(100),
        "without back-off"
    );
    assert!(killed.elapsed() < Duration::from_secs(2), "too late");
    assert!(supervisor.take_changed());
    let recorded = record::read(&scratch.join("processes.json")).unwrap();
    assert_eq!(recorded, supervisor.entries());
    assert_eq!(recorded[0].deaths, 1);
    supervisor.stop();
    assert!(identity(&supervisor, "action").is_none());
}

#[test]
fn groups_stop_in_order_and_what_does_not_listen_is_killed_with_its_descendants() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    // A shell that waits for a background process hears a signal at any moment; one in the foreground may swallow an interrupt.
    let polite = |name: &str| {
        format!(
            "trap 'sleep 0.2; echo {name} >> order; exit 0' TERM INT; : > {name}.ready; while :; do sleep 0.05 & wait; done"
        )
    };
    for (name, group) in [
        ("postgres", Group::Postgres),
        ("nats", Group::Nats),
        ("action", Group::Service),
        ("worker", Group::Worker),
    ] {
        supervisor
            .start(script(&scratch.path, name, group, &polite(name)))
            .unwrap();
    }
    let deaf = "trap '' TERM; sleep 601 & echo $! > descendant; while :; do sleep 0.1; done";
    supervisor
        .start(script(&scratch.path, "agent", Group::Agent, deaf))
        .unwrap();
    eventually("the shells have set their traps", || {
        ["postgres", "nats", "action", "worker"]
            .iter()
            .all(|name| scratch.join(&format!("{name}.ready")).exists())
    });
    let mut descendant = None;
    eventually("the descendant is known", || {
        let said = std::fs::read_to_string(scratch.join("descendant")).unwrap_or_default();
        descendant = said.strip_suffix('\n').and_then(|said| said.parse().ok());
        descendant.is_some()
    });
    let descendant: u32 = descendant.unwrap();
    let descendant = Identity::of(descendant).unwrap();
    supervisor.stop();
    let order = std::fs::read_to_string(scratch.join("order")).unwrap();
    assert_eq!(
        order.split_whitespace().collect::<Vec<_>>(),
        ["worker", "action", "nats", "postgres"]
    );
    assert!(descendant.wait_gone(Duration::from_secs(5)));
    assert!(
        supervisor
            .entries()
            .iter()
            .all(|entry| entry.identity.is_none())
    );
}

#[test]
fn a_child_that_cannot_start_is_named_with_the_end_of_its_log() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    let mut spec = script(
        &scratch.path,
        "metrics",
        Group::Service,
        "echo no database; exit 3",
    );
    spec.probe = launcher::health::Probe::Ready(1);
    supervisor.start(spec).unwrap();
    let error = supervisor
        .wait_ready("metrics", Duration::from_secs(20), 2)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("metrics ended 2 times while starting"),
        "{text}"
    );
    assert!(text.contains("no database"), "{text}");
    supervisor.stop();
}

#[test]
fn a_missing_program_is_named() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    let mut spec = script(&scratch.path, "agent", Group::Agent, "");
    spec.program = Path::new("/nowhere/dashfleet-agent").into();
    let error = supervisor.start(spec).unwrap_err();
    assert!(
        error.to_string().contains("/nowhere/dashfleet-agent"),
        "{error}"
    );
}

#[test]
fn a_step_returns_its_output_and_a_failed_one_its_log() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    let log = scratch.join("step.log");
    let shell = |text: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    };
    let limit = Duration::from_secs(10);
    let much = shell("yes | head -c 300000; echo; echo end");
    let printed = supervisor.run_step("much", much, &log, limit).unwrap();
    assert!(printed.len() > 300_000 && printed.ends_with("end\n"));
    let error = supervisor
        .run_step("bad", shell("echo why >&2; exit 7"), &log, limit)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("bad failed (exit status: 7)") && text.contains("why"),
        "{text}"
    );
    let slow = shell("sleep 600");
    let error = supervisor
        .run_step("slow", slow, &log, Duration::from_millis(200))
        .unwrap_err();
    assert!(matches!(error, Error::Child { .. }), "{error}");
}

#[test]
fn children_get_no_variables_that_would_mislead_them() {
    let scratch = Scratch::new();
    let mut supervisor = supervisor(&scratch);
    let show = "env > shown.tmp; mv shown.tmp shown.env; exec sleep 600";
    let mut spec = script(&scratch.path, "action", Group::Service, show);
    spec.env.push(("DASHFLEET_KEYS".to_owned(), "own".into()));
    supervisor.start(spec).unwrap();
    eventually("the child has shown itself", || {
        scratch.join("shown.env").exists()
    });
    let environment = std::fs::read_to_string(scratch.join("shown.env")).unwrap();
    assert!(
        environment.contains("DASHFLEET_KEYS=own\n"),
        "{environment}"
    );
    assert!(
        !environment.lines().any(|line| line.starts_with("PG")),
        "{environment}"
    );
    assert!(
        !environment.contains("DASHFLEET_POSTGRES_BIN"),
        "{environment}"
    );
    supervisor.stop();
}

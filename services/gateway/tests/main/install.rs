//! The install scripts: `install.sh` as a shell runs it, in a folder that stands for the machine's own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testkit::Folder;

use crate::world::World;

/// Stands for the agent: notes how it was called, and is enrolled when a file says so.
const AGENT: &str = "#!/bin/sh\necho \"$0 $*\" >>'@ROOT@/calls'\n[ \"$1\" != status ] || [ -e '@ROOT@/enrolled' ]\n";
/// Every machine is a Linux machine, and everybody root.
const MACHINE: &str =
    "id() { echo 0; }\nuname() { [ \"$1\" = -s ] && echo Linux || echo x86_64; }\n";

/// A machine to install on.
struct Machine {
    folder: Folder,
    script: String,
}

impl Machine {
    async fn new() -> Self {
        let world = World::new().await;
        let served = world.get_as("", "/install.sh").await.text;
        let folder = Folder::new("install");
        let root = folder.path().display().to_string();
        let script = served
            .replace("/usr/local/bin", &format!("{root}/bin"))
            .replace("/etc/", &format!("{root}/etc/"))
            .replace("/run/systemd", &format!("{root}/run/systemd"));
        std::fs::create_dir_all(folder.path().join("etc/systemd/system")).unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        std::fs::write(folder.path().join("agent"), AGENT.replace("@ROOT@", &root)).unwrap();
        Self { folder, script }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives this much of the script to a shell.
    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let file = self.path("install.sh");
        std::fs::write(&file, format!("{MACHINE}{script}")).unwrap();
        Command::new("sh")
            .arg(file)
            .arg("--binary")
            .arg(self.path("agent"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("TMPDIR", self.path("tmp"))
            .env("DASHFLEET_ENROLLMENT_TOKEN", "dfe_token")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs all of it; how the agent was called.
    fn install(&self, arguments: &[&str]) -> Vec<String> {
        let calls = self.path("calls");
        drop(std::fs::remove_file(&calls));
        let output = self.run(&self.script, arguments);
        assert!(output.status.success(), "{output:?}");
        let calls = std::fs::read_to_string(calls).unwrap();
        calls.lines().map(ToOwned::to_owned).collect()
    }
}

fn enrolled_with(calls: &[String]) -> &str {
    let enrolled = calls.iter().find(|call| call.contains(" enroll --url "));
    enrolled.expect("an enrolment")
}

#[tokio::test]
async fn the_program_is_tried_where_it_will_be_and_one_that_does_not_run_replaces_none() {
    let machine = Machine::new().await;
    let program = machine.path("bin/dashfleet-agent");
    let calls = machine.install(&[]);
    let name = program.display().to_string();
    assert_eq!(calls[0], format!("{name}.new --version"));
    // Nothing runs where temporary files are: there are machines on which nothing can.
    assert!(
        calls.iter().all(|call| call.starts_with(&name)),
        "{calls:?}"
    );
    assert!(
        machine
            .path("etc/systemd/system/dashfleet-agent.service")
            .exists()
    );

    let works = std::fs::read_to_string(&program).unwrap();
    std::fs::write(machine.path("agent"), "#!/bin/sh\nexit 1\n").unwrap();
    let output = machine.run(&machine.script, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("does not run on this machine"), "{said}");
    assert_eq!(std::fs::read_to_string(&program).unwrap(), works);
    assert!(!machine.path("bin/dashfleet-agent.new").exists());
}

#[tokio::test]
async fn a_script_that_has_not_wholly_arrived_does_nothing() {
    let machine = Machine::new().await;
    let script = machine.script.trim_end();
    for (end, _) in script.match_indices('\n') {
        machine.run(&script[..=end], &[]);
        assert!(
            !machine.path("bin").exists() && !machine.path("calls").exists(),
            "after {}",
            &script[..end]
        );
    }
    assert!(!machine.install(&[]).is_empty());
}

#[tokio::test]
async fn of_an_enrolled_machine_only_a_key_that_somebody_has_named_is_compared() {
    let machine = Machine::new().await;
    let calls = machine.install(&["--label", "env=prod"]);
    let first = enrolled_with(&calls);
    assert!(
        first.ends_with(" --action-key 0123abcd --label env=prod"),
        "{first}"
    );
    // The server's key is another one than this machine was enrolled with, after each rotation.
    std::fs::write(machine.path("enrolled"), "").unwrap();
    let calls = machine.install(&[]);
    let again = enrolled_with(&calls);
    assert!(again.trim_end().ends_with(" --action-key"), "{again}");
    let calls = machine.install(&["--action-key", "4567cdef"]);
    let named = enrolled_with(&calls);
    assert!(named.ends_with(" --action-key 4567cdef"), "{named}");
}

/// No machine of ours runs Windows: what can be read is read.
#[tokio::test]
async fn on_windows_every_program_is_looked_at_and_the_folders_are_taken_over() {
    let world = World::new().await;
    let script = world.get_as("", "/install.ps1").await.text;
    let calls: Vec<_> = script
        .lines()
        .filter(|line| line.contains(".exe ") || line.contains("& $"))
        .filter(|line| !line.trim_start().starts_with(['#', '.']))
        .collect();
    assert!(calls.len() >= 5, "{calls:?}");
    for call in &calls {
        let call = call.trim_start();
        assert!(
            call.starts_with("Invoke-Program ") || call == "& $run @rest",
            "{call}"
        );
    }
    let after = |what: &str| {
        let place = script.find(what);
        place.unwrap_or_else(|| panic!("{what} is missing"))
    };
    assert!(after("& $run @rest") < after("if ($LASTEXITCODE -ne 0) { throw"));
    // The folder above comes first: who owns it could put another one into its place.
    assert!(after("Protect-Folder $root") < after("Protect-Folder $state"));
    assert!(after("Protect-Folder $state") < after("Invoke-Program $program @enrol"));
    assert!(after("/setowner") < after("/reset") && after("/reset") < after("/inheritance:r"));
    assert!(after("ReparsePoint") < after("/setowner"));
}

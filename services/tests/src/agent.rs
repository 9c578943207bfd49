//! Agents of the test's own: real processes with their own state, started, stopped and killed at will.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::product::{Product, program};

/// Where machines enrol, and where the folders of a test's agents are.
#[derive(Clone, Debug)]
pub struct Door {
    /// The gateway.
    pub url: String,
    /// An enrolment token.
    pub token: String,
    /// The folder of the folders.
    pub folder: PathBuf,
}

/// An enrolled agent, perhaps running.
#[derive(Debug)]
pub struct TestAgent {
    /// Its folder.
    pub folder: PathBuf,
    /// Its machine.
    pub machine: String,
    child: Option<Child>,
}

/// The one line of an execution log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The action.
    pub action: String,
    /// Its attempt.
    pub attempt: i64,
    /// Its place.
    pub seq: i64,
}

impl TestAgent {
    /// Enrols an agent in a folder inside the product's.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn enroll(product: &Product, name: &str) -> Self {
        Self::enroll_with(product, name, &[])
    }

    /// Like [`TestAgent::enroll`], with labels such as `env=prod`.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn enroll_with(product: &Product, name: &str, labels: &[&str]) -> Self {
        Self::enroll_at(&product.door(), name, labels)
    }

    /// Like [`TestAgent::enroll_with`], wherever that is.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn enroll_at(door: &Door, name: &str, labels: &[&str]) -> Self {
        let options: Vec<&str> = labels
            .iter()
            .flat_map(|label| ["--label", *label])
            .collect();
        Self::enroll_by(door, name, &options)
    }

    /// Enrols an agent there, with these options of `enroll` besides.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn enroll_by(door: &Door, name: &str, options: &[&str]) -> Self {
        let folder = door.folder.join(format!("agent-{name}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(
            folder.join("machine-id"),
            format!("{}\n", uuid::Uuid::new_v4().simple()),
        )
        .expect("a file");
        allow_all(&folder);
        let mut agent = Self {
            folder,
            machine: String::new(),
            child: None,
        };
        let output = agent
            .command()
            .args(["enroll", "--url", &door.url])
            .env("DASHFLEET_ENROLLMENT_TOKEN", &door.token)
            .args(options)
            .output()
            .expect("the agent");
        assert!(
            output.status.success(),
            "enroll: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: Value = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .next_back()
            .expect("JSON on standard output");
        agent.machine = answer["machineId"].as_str().expect("machineId").to_owned();
        agent
    }

    /// The agent's program with this agent's environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("dashfleet-agent"));
        command
            .env("DASHFLEET_AGENT_STATE", self.folder.join("state"))
            .env("DASHFLEET_AGENT_MACHINE_ID", self.folder.join("machine-id"))
            .env("DASHFLEET_AGENT_POLICY", self.folder.join("policy.json"))
            .env("DASHFLEET_AGENT_REBOOT", "dry-run")
            .env("DASHFLEET_LOG", "info")
            .stdin(Stdio::null());
        let configuration = self.configuration();
        if configuration.exists() {
            command.env("DASHFLEET_AGENT_CONFIG", configuration);
        }
        command
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("agent.json")
    }

    /// Says how often it samples, by its configuration file; it holds from the next start on.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn samples_every(&self, period: Duration) {
        let text = json!({ "sampleMs": u64::try_from(period.as_millis()).expect("a period") });
        private_file(&self.configuration(), &text.to_string());
    }

    /// Says where the bus is, as another enrolment would have; it holds from the next start on.
    ///
    /// # Panics
    /// When its enrolment cannot be written.
    pub fn reaches(&self, urls: &[String]) {
        let path = self.folder.join("state/enrolment.json");
        let text = std::fs::read_to_string(&path).expect("an enrolment");
        let mut enrolment: Value = serde_json::from_str(&text).expect("JSON");
        enrolment["enrolled"]["natsUrls"] = json!(urls);
        private_file(&path, &enrolment.to_string());
    }

    /// Where the samples are that the server does not have.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.folder.join("state/samples")
    }

    /// What `dashfleet-agent status` says.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = self
            .command()
            .args(["status", "--json"])
            .output()
            .expect("the agent");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("agent.log"))
            .expect("a log");
        let child = self
            .command()
            .arg("run")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent");
        self.child = Some(child);
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Its exit code, when it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        status.code()
    }

    /// What it executed, in order.
    #[must_use]
    pub fn executions(&self) -> Vec<Execution> {
        executions(&self.folder.join("state/execution.log"))
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A policy file that was named must be there, and this one allows every kind.
fn allow_all(folder: &Path) {
    private_file(&folder.join("policy.json"), "{}\n");
    only_for_us(folder, 0o700);
}

fn private_file(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    only_for_us(path, 0o600);
}

/// Whatever the umask: what a group can write is not trusted.
fn only_for_us(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("permissions");
}

/// What an execution log says, in order.
#[must_use]
pub fn executions(path: &Path) -> Vec<Execution> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| {
            Some(Execution {
                action: line["action"].as_str()?.to_owned(),
                attempt: line["attempt"].as_i64()?,
                seq: line["seq"].as_i64()?,
            })
        })
        .collect()
}

impl TestAgent {
    /// An agent whose folder is there already: a copy.
    ///
    /// # Panics
    /// When its policy file cannot be written.
    #[must_use]
    pub fn at(folder: PathBuf, machine: String) -> Self {
        allow_all(&folder);
        Self {
            folder,
            machine,
            child: None,
        }
    }
}

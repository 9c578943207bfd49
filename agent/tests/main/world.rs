//! A world for agents: a real nats-server with the product's own permissions, and the owners' side of the protocol
//! as a small service of the test's own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::callout::{Admitted, Attempt, CalloutKeys};
use bus::{AgentSender, Bus, Service};
use contract::agent::{
    Inventory, Noted, ReportAnswer, ResultReport, SampleAnswer, SampleBatch, Step, Stopping,
    Verdict,
};
use contract::order::{
    ORDER_PREFIX, Order, PAGE_PREFIX, Signed, SyncItem, SyncPage, SyncRequest, Task, Verb,
    fingerprint,
};
use contract::subject::{Up, act};
use contract::{Problem, identity::Enrolled};
use dashfleet_agent::state::StateFolder;
use dashfleet_agent::state::enrolment::{Enrolment, MachineKey};
use dashfleet_agent::state::seal::Seal;
use domain::{ActionId, DeploymentId, MachineId, OrgId, Timestamp};
use nkeys::{KeyPair, XKey};
use testkit::{Folder, Nats, eventually};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The owners' side.
#[derive(Default)]
pub struct Owners {
    pub machines: HashMap<String, (OrgId, MachineId)>,
    pub refuse: bool,
    pub tasks: Vec<(Task, bool)>,
    pub results: Vec<ResultReport>,
    pub steps: Vec<(Up, Step)>,
    pub samples: Vec<contract::agent::Sample>,
    pub inventories: Vec<Inventory>,
    pub stoppings: Vec<Stopping>,
    pub syncs: Vec<SyncRequest>,
    pub quarantined: Option<String>,
    /// Questions what was missed are heard and not answered.
    pub mute: bool,
    /// Reports are answered RETRY.
    pub busy: bool,
    /// The page's echo, until somebody echoes it.
    pub suspects: Option<uuid::Uuid>,
}

impl Owners {
    /// The first result of an action.
    pub fn result(&self, action: ActionId) -> Option<ResultReport> {
        self.results
            .iter()
            .find(|result| result.action == action)
            .cloned()
    }
}

pub struct World {
    pub nats: Nats,
    pub action: Bus,
    pub owners: Arc<Mutex<Owners>>,
    pub key: Arc<KeyPair>,
    pub deployment: DeploymentId,
    _services: Vec<Service>,
}

fn read(nats: &Nats, name: &str) -> String {
    runtime::keys::read_seed(&nats.keys("identity"), name).unwrap()
}

impl World {
    pub async fn new() -> Self {
        let nats = Nats::start().await;
        let owners = Arc::new(Mutex::new(Owners::default()));
        let key = Arc::new(KeyPair::new_service());
        let deployment = DeploymentId::new();
        let keys = CalloutKeys {
            issuer: KeyPair::from_seed(&read(&nats, "callout-issuer.nk")).unwrap(),
            xkey: XKey::from_seed(&read(&nats, "callout-xkey.nk")).unwrap(),
        };
        let auth = nats.bus("identity-auth").await;
        let known = Arc::clone(&owners);
        tokio::spawn(async move {
            let decide = move |attempt: Attempt| {
                let owners = known.lock().unwrap();
                let admitted = match owners.machines.get(&attempt.public_key) {
                    Some((org, machine)) if !owners.refuse => Ok(Admitted {
                        org: *org,
                        machine: *machine,
                        lifetime: Duration::from_secs(3_600),
                    }),
                    _ => Err("revoked".to_owned()),
                };
                std::future::ready(admitted)
            };
            bus::callout::serve(&auth, keys, decide).await.unwrap();
        });
        let action = nats.bus("action").await;
        let metrics = nats.bus("metrics").await;
        let services = vec![
            action_service(&action, &owners, &key, deployment).await,
            metrics_service(&metrics, &owners).await,
        ];
        Self {
            nats,
            action,
            owners,
            key,
            deployment,
            _services: services,
        }
    }

    pub fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap()
    }

    /// A machine that is enrolled, and whose agent does not run yet.
    pub fn enrol(&self) -> Agent {
        let folder = Folder::new("agent");
        let agent = self.enrol_in(folder.path(), "http://127.0.0.1:1");
        Agent {
            _folder: Some(folder),
            ..agent
        }
    }

    /// The same, with its state in this folder, and enrolled with this server.
    pub fn enrol_in(&self, folder: &Path, url: &str) -> Agent {
        let machine_id = folder.join("machine-id");
        std::fs::write(&machine_id, "0123456789abcdef").unwrap();
        let state = StateFolder::take(&folder.join("state"), true).unwrap();
        Seal::of(
            "0123456789abcdef",
            dashfleet_agent::platform::hardware_id().as_deref(),
        )
        .apply(&state)
        .unwrap();
        let key = MachineKey::read_or_make(&state).unwrap();
        let (org, machine) = (OrgId::new(), MachineId::new());
        let public_key = key.pair.public_key();
        let enrolled = Enrolled {
            organization_id: org,
            machine_id: machine,
            deployment_id: self.deployment,
            nats_urls: vec![self.nats.url()],
            nats_ca: None,
            action_keys: vec![self.key.public_key()],
        };
        Enrolment {
            url: url.into(),
            public_key: public_key.clone(),
            enrolled,
        }
        .write(&state)
        .unwrap();
        self.owners()
            .machines
            .insert(public_key.clone(), (org, machine));
        let path = folder.to_owned();
        Agent {
            path,
            org,
            machine,
            fingerprint: fingerprint(&public_key),
            _folder: None,
        }
    }

    /// The order about a task, as it is signed.
    pub fn signed(&self, agent: &Agent, verb: Verb, task: Option<Task>) -> Signed {
        let order = Order {
            deployment: self.deployment,
            org: agent.org,
            machine: agent.machine,
            fingerprint: agent.fingerprint.clone(),
            verb,
            issued_at: Timestamp::now(),
            task,
            keys: None,
        };
        Signed::sign(ORDER_PREFIX, serde_json::to_vec(&order).unwrap(), &self.key).unwrap()
    }

    /// Publishes something under a verb of a machine.
    pub async fn publish(&self, agent: &Agent, verb: Verb, signed: &Signed) {
        let bytes = serde_json::to_vec(signed).unwrap();
        self.action
            .publish(act(agent.org, agent.machine, verb), bytes)
            .await
            .unwrap();
    }

    /// Gives an order as the action service does.
    pub async fn ring(&self, agent: &Agent, verb: Verb, task: &Task) {
        self.publish(agent, verb, &self.signed(agent, verb, Some(task.clone())))
            .await;
    }

    /// Queues a task without ringing.
    pub fn queue(&self, task: &Task) {
        self.owners().tasks.push((task.clone(), false));
    }

    /// The result of an action, once it is there.
    pub async fn result(&self, action: ActionId) -> ResultReport {
        eventually("a result", PATIENCE, || async {
            self.owners().result(action)
        })
        .await
    }

    /// Waits until something holds of the owners.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Owners) -> bool) {
        eventually(what, PATIENCE, || {
            let held = holds(&self.owners());
            async move { held.then_some(()) }
        })
        .await;
    }

    /// Waits until an agent of this world has asked what it missed.
    pub async fn until_synced(&self, before: usize) {
        self.until("a sync", |owners| owners.syncs.len() > before)
            .await;
    }
}

async fn action_service(
    bus: &Bus,
    owners: &Arc<Mutex<Owners>>,
    key: &Arc<KeyPair>,
    deployment: DeploymentId,
) -> Service {
    let service = Service::start(bus, "action", None).await.unwrap();
    for word in [Up::Accepted, Up::Started] {
        let owners = Arc::clone(owners);
        let step = move |_: AgentSender, step: Step| {
            owners.lock().unwrap().steps.push((word, step));
            std::future::ready(Ok::<_, Problem>(ReportAnswer {
                verdict: Verdict::Applied,
            }))
        };
        service.answer_agent(word, step).await.unwrap();
    }
    let known = Arc::clone(owners);
    let result = move |_: AgentSender, result: ResultReport| {
        let mut owners = known.lock().unwrap();
        let verdict = if owners.busy {
            Verdict::Retry
        } else if owners.result(result.action).is_some() {
            Verdict::Duplicate
        } else {
            Verdict::Applied
        };
        if verdict != Verdict::Retry {
            owners.results.push(result);
        }
        std::future::ready(Ok::<_, Problem>(ReportAnswer { verdict }))
    };
    service.answer_agent(Up::Result, result).await.unwrap();
    let (known, key) = (Arc::clone(owners), Arc::clone(key));
    let sync = move |from: AgentSender, request: SyncRequest| {
        let mut owners = known.lock().unwrap();
        let page = owners.page(from, request, deployment);
        let answer = if owners.mute {
            Err(Problem::unavailable("not now"))
        } else {
            let page = serde_json::to_vec(&page).unwrap();
            Ok(Signed::sign(PAGE_PREFIX, page, &key).unwrap())
        };
        std::future::ready(answer)
    };
    service.answer_agent(Up::Sync, sync).await.unwrap();
    service
}

impl Owners {
    fn page(
        &mut self,
        from: AgentSender,
        request: SyncRequest,
        deployment: DeploymentId,
    ) -> SyncPage {
        let public_key = self
            .machines
            .iter()
            .find(|(_, place)| **place == (from.org, from.machine))
            .unwrap()
            .0
            .clone();
        let echo = self.suspects.filter(|echo| request.echo != Some(*echo));
        if echo.is_none() {
            self.suspects = None;
        }
        let offers = self.quarantined.is_none() && echo.is_none();
        let wanted: Vec<_> = self
            .tasks
            .iter()
            .filter(|(task, _)| offers && task.seq > request.after_seq)
            .collect();
        let items = wanted
            .iter()
            .take(20)
            .map(|(task, cancel)| match self.result(task.action) {
                Some(_) => SyncItem::Ended {
                    seq: task.seq,
                    through: task.seq,
                },
                None => SyncItem::Open {
                    task: task.clone(),
                    cancel: *cancel,
                },
            });
        let page = SyncPage {
            deployment,
            org: from.org,
            machine: from.machine,
            fingerprint: fingerprint(&public_key),
            nonce: request.nonce,
            server_time: Timestamp::now(),
            items: items.collect(),
            more: wanted.len() > 20,
            echo,
            quarantined: self.quarantined.clone(),
        };
        self.syncs.push(request);
        page
    }
}

async fn metrics_service(bus: &Bus, owners: &Arc<Mutex<Owners>>) -> Service {
    let service = Service::start(bus, "metrics", None).await.unwrap();
    let known = Arc::clone(owners);
    let samples = move |_: AgentSender, batch: SampleBatch| {
        let through = batch.samples.last().unwrap().at;
        known.lock().unwrap().samples.extend(batch.samples);
        std::future::ready(Ok::<_, Problem>(SampleAnswer {
            through,
            refused: 0,
        }))
    };
    service.answer_agent(Up::Metrics, samples).await.unwrap();
    let known = Arc::clone(owners);
    let inventory = move |_: AgentSender, inventory: Inventory| {
        known.lock().unwrap().inventories.push(inventory);
        std::future::ready(Ok::<_, Problem>(Noted { noted: true }))
    };
    service
        .answer_agent(Up::Inventory, inventory)
        .await
        .unwrap();
    let known = Arc::clone(owners);
    let stopping = move |_: AgentSender, stopping: Stopping| {
        known.lock().unwrap().stoppings.push(stopping);
        std::future::ready(Ok::<_, Problem>(Noted { noted: true }))
    };
    service.answer_agent(Up::Stopping, stopping).await.unwrap();
    service
}

/// An enrolled machine.
pub struct Agent {
    pub path: PathBuf,
    pub org: OrgId,
    pub machine: MachineId,
    pub fingerprint: String,
    _folder: Option<Folder>,
}

impl Agent {
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Starts the agent's program, which ends with the guard.
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// Starts the agent's program with more in its environment.
    pub fn start_with(&self, more: &[(&str, &str)]) -> Running {
        Running::start(&["run"], &self.state(), &self.path.join("machine-id"), more)
    }

    /// What it executed, by its own log: action, attempt, seq and kind.
    pub fn executed(&self) -> Vec<(ActionId, i64, i64, String)> {
        let text = std::fs::read_to_string(self.state().join("execution.log")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    line["action"].as_str().unwrap().parse().unwrap(),
                    line["attempt"].as_i64().unwrap(),
                    line["seq"].as_i64().unwrap(),
                    line["kind"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

/// The agent's program as a process.
pub struct Running {
    pub child: Child,
    log: PathBuf,
}

impl Running {
    pub fn start(
        arguments: &[&str],
        state: &Path,
        machine_id: &Path,
        more: &[(&str, &str)],
    ) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_dashfleet-agent"));
        Self::start_program(program, arguments, state, machine_id, more)
    }

    /// The same, of this program file.
    pub fn start_program(
        program: &Path,
        arguments: &[&str],
        state: &Path,
        machine_id: &Path,
        more: &[(&str, &str)],
    ) -> Self {
        let log = state.with_extension(format!("{}.log", uuid::Uuid::new_v4().simple()));
        let policy = state.with_extension("policy.json");
        std::fs::write(&policy, "{}").unwrap();
        // Whatever the umask: what a group can write is not trusted.
        for path in [policy.as_path(), policy.parent().unwrap()] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(path, mode).unwrap();
        }
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("DASHFLEET_AGENT_STATE", state)
            .env("DASHFLEET_AGENT_MACHINE_ID", machine_id)
            .env("DASHFLEET_AGENT_POLICY", policy)
            .env("DASHFLEET_AGENT_REBOOT", "dry-run")
            .env("DASHFLEET_AGENT_SAMPLE_MS", "200")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Its exit code, once it has ended.
    pub async fn code(&mut self) -> i32 {
        let status = eventually("the agent ends", PATIENCE, || {
            let status = self.child.try_wait().unwrap();
            async move { status }
        });
        status.await.code().unwrap_or(-1)
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

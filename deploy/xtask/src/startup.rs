//! The supervisor's life: brings the product up in order, says when it runs, keeps it running, stops it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::devfile::{self, Devfile};
use crate::error::{Error, Result};
use crate::folder::{Folder, Launch};
use crate::ports::Ports;
use crate::secrets::Secrets;
use crate::supervisor::Supervisor;
use crate::supervisor::child::report;
use crate::table::{SERVICES, Table};
use crate::{files, http, orphans, terminal};

/// How long one part of the start may take, on a slow machine with a busy disk.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one answer of the API may take while the supervisor waits for it.
const ANSWER: Duration = Duration::from_secs(3);
/// A process that died this often while starting will not start.
const DEATHS: u32 = 5;

/// A product that is being run by this process.
pub struct Running {
    data: Folder,
    launch: Launch,
    secrets: Secrets,
    ports: Ports,
    cluster: Cluster,
    supervisor: Supervisor,
    devfile: Option<Devfile>,
}

/// Runs the product until a signal asks to stop. `up` is called when everything runs.
pub fn run(data: &Folder, up: impl FnOnce(&Devfile)) -> Result<()> {
    let _supervisor_lock = data.become_supervisor()?;
    // Nothing may take the file of an earlier run for this one's.
    files::remove(&data.devfile())?;
    let mut supervisor = Supervisor::new(&data.record(), &data.join("logs"));
    orphans::end(data)?;
    let secrets = Secrets::load_or_make(&data.join("secrets.json"))?;
    let launch = data
        .launch()?
        .ok_or_else(|| Error::failed("launch.json is missing"))?;
    let cluster = Cluster::locate(data, &secrets)?;
    supervisor.turn(Duration::ZERO)?;
    let mut running = Running {
        ports: Ports::open(&data.join("ports.json"))?,
        data: data.clone(),
        launch,
        secrets,
        cluster,
        supervisor,
        devfile: None,
    };
    let outcome = running.live(up);
    terminal::progress("stop", "agent, workers, services, nats, postgres");
    files::remove(&data.devfile())?;
    running.supervisor.stop();
    terminal::progress("stop", "everything has stopped");
    match outcome {
        // An orderly end of a product that ran is no error.
        Err(Error::Interrupted) if running.devfile.is_some() => Ok(()),
        other => other,
    }
}

impl Running {
    fn live(&mut self, up: impl FnOnce(&Devfile)) -> Result<()> {
        let devfile = self.start()?;
        up(&devfile);
        self.devfile = Some(devfile);
        loop {
            self.supervisor.turn(Duration::from_secs(1))?;
            if self.supervisor.take_reload() {
                self.reload()?;
            }
            if self.supervisor.take_changed()
                && let Err(error) = self.write_pids()
            {
                report(&format!("{error}"));
            }
        }
    }

    fn table(&mut self) -> Table<'_> {
        Table {
            data: &self.data,
            launch: &self.launch,
            secrets: &self.secrets,
            ports: &mut self.ports,
        }
    }

    /// Brings everything up, in order.
    fn start(&mut self) -> Result<Devfile> {
        self.step("bootstrap", "keys", |table| {
            let keys = table.keys();
            let keys = keys.to_string_lossy();
            Ok(table.step("bootstrap", &["keys", "--dir", &keys], &[]))
        })?;
        self.start_postgres()?;
        // Not the committed file: the caller's list of pools is in it.
        let config = self.step("bootstrap", "nats-config", |table| {
            Ok(table.step("bootstrap", &["nats-config"], &[]))
        })?;
        let nats = self.table().nats(&config)?;
        files::make_private_folder(&self.data.join("nats"))?;
        terminal::progress(
            "nats",
            &format!("on port {}", nats.port.unwrap_or_default()),
        );
        self.supervisor.start(nats)?;
        self.supervisor.wait_ready("postgres", PATIENCE, DEATHS)?;
        self.supervisor.wait_ready("nats", PATIENCE, DEATHS)?;
        let organization_id = self.bootstrap()?;
        self.start_services()?;
        let machine_id = self.start_agent()?;
        self.write_devfile(organization_id, machine_id)
    }

    fn start_postgres(&mut self) -> Result<()> {
        if self.cluster.outside {
            let place = self.cluster.folder.display();
            let reason = "its user cannot reach the data folder, so the cluster lies in";
            terminal::progress("postgres", &format!("{reason} {place}"));
        }
        let binaries = self.launch.postgres_binaries.clone();
        if !self.cluster.exists() {
            terminal::progress("postgres", "making a private cluster");
            let command = self
                .cluster
                .prepare(&binaries, &self.secrets.postgres_password)?;
            let log = self.data.log("initdb");
            self.supervisor
                .run_step("initdb", command, &log, PATIENCE)?;
            self.cluster.adopt()?;
            // The next `up` looks for binaries of this version, also when a newer one has been installed.
            if let Some(version) = self.cluster.version() {
                files::replace_json(&self.data.join("postgres.version"), &version)?;
            }
        }
        let port = self.table().postgres_port()?;
        terminal::progress("postgres", &format!("on port {port}"));
        let spec = self
            .cluster
            .spec(&binaries, port, self.data.log("postgres"));
        self.supervisor.start(spec)
    }

    /// Roles, migrations, streams, and the first organisation, whose id is returned.
    fn bootstrap(&mut self) -> Result<String> {
        self.step("bootstrap", "database", |table| {
            let keys = table.keys();
            let keys = keys.to_string_lossy();
            let url = table.superuser_url()?.into();
            let env = [("DASHFLEET_DATABASE_ADMIN_URL", url)];
            Ok(table.step("bootstrap", &["database", "--keys", &keys], &env))
        })?;
        self.step("bootstrap", "bus", |table| {
            let keys = table.keys().join("bootstrap").into();
            let env = [
                ("DASHFLEET_NATS_URLS", table.nats_url()?.into()),
                ("DASHFLEET_KEYS", keys),
            ];
            Ok(table.step("bootstrap", &["bus"], &env))
        })?;
        let printed = self.step("identity", "bootstrap", |table| {
            let secrets = table.secrets;
            let keys = table.keys().join("identity").into();
            let env = [
                ("DASHFLEET_KEYS", keys),
                ("DASHFLEET_NATS_URLS", table.nats_url()?.into()),
                (
                    "DASHFLEET_DATABASE_URL",
                    table.database_url("df_identity")?.into(),
                ),
                (
                    "DASHFLEET_DATABASE_SYSTEM_URL",
                    table.database_url("df_identity_system")?.into(),
                ),
                (
                    "DASHFLEET_BOOTSTRAP_ADMIN_EMAIL",
                    secrets.admin_email.clone().into(),
                ),
                (
                    "DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD",
                    secrets.admin_password.clone().into(),
                ),
                (
                    "DASHFLEET_BOOTSTRAP_API_KEY",
                    secrets.api_key.clone().into(),
                ),
                (
                    "DASHFLEET_BOOTSTRAP_LEGACY_API_KEY",
                    secrets.legacy_api_key.clone().into(),
                ),
                (
                    "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN",
                    secrets.enrollment_token.clone().into(),
                ),
            ];
            Ok(table.step("identity", &["bootstrap"], &env))
        })?;
        text_in(&printed, "organizationId").ok_or_else(|| {
            Error::failed(format!(
                "identity's bootstrap names no organizationId: {printed}"
            ))
        })
    }

    /// Starts the replicas of all services that do not run yet, and waits until each is ready.
    fn start_services(&mut self) -> Result<()> {
        let mut names = Vec::new();
        for service in SERVICES {
            for replica in 1..=self.launch.replicas.of(service.name) {
                let spec = self.table().service(service, replica)?;
                if self.supervisor.has(&spec.name) {
                    continue;
                }
                let port = spec.port.unwrap_or_default();
                terminal::progress(&spec.name, &format!("on port {port}"));
                names.push(spec.name.clone());
                self.supervisor.start(spec)?;
            }
        }
        for name in names {
            self.supervisor.wait_ready(&name, PATIENCE, DEATHS)?;
        }
        Ok(())
    }

    /// Enrols this machine's agent once, starts it, and waits until the product shows it ONLINE with a sample.
    fn start_agent(&mut self) -> Result<String> {
        let url = self.table().gateway_url(1)?;
        let remembered = self.data.join("machine.json");
        let known = files::read_json::<String>(&remembered)?;
        let machine_id = match known {
            Some(machine_id) if self.data.join("agent").is_dir() => machine_id,
            _ => {
                let machine_id = self.enroll(&url)?;
                files::replace_json(&remembered, &machine_id)?;
                machine_id
            }
        };
        let agent = self.table().agent()?;
        terminal::progress("agent", &format!("machine {machine_id}"));
        self.supervisor.start(agent)?;
        let deadline = Instant::now() + PATIENCE;
        let address = format!("{url}/api/v1/machines/{machine_id}");
        loop {
            let reason = match http::get(&address, Some(&self.secrets.api_key), ANSWER) {
                Ok(answer) if is_online(&answer) => return Ok(machine_id),
                Ok(answer) => format!("{} {}", answer.status, status_in(&answer)),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                let log = self.data.log("agent");
                let what = format!("this machine is not ONLINE with a sample ({reason})");
                return Err(Error::Child {
                    what,
                    tail: files::tail(&log, 15),
                    log,
                });
            }
            self.supervisor.turn(Duration::from_millis(100))?;
        }
    }

    fn enroll(&mut self, url: &str) -> Result<String> {
        let printed = self.step("agent", "enroll", |table| {
            let env = table.agent_environment()?;
            // Not on the command line, which everybody on this machine can read.
            let token = [(
                "DASHFLEET_ENROLLMENT_TOKEN",
                table.secrets.enrollment_token.clone().into(),
            )];
            let mut command = table.step("agent", &["enroll", "--url", url], &token);
            command.envs(env);
            Ok(command)
        })?;
        text_in(&printed, "machineId").ok_or_else(|| {
            Error::failed(format!(
                "the agent's enrolment names no machineId: {printed}"
            ))
        })
    }

    fn write_devfile(&mut self, organization_id: String, machine_id: String) -> Result<Devfile> {
        let gateways = self.launch.replicas.of("gateway");
        let pids = devfile::pids(std::process::id(), &self.supervisor.entries());
        let path = self.data.devfile();
        let mut table = self.table();
        let devfile = Devfile {
            url: table.gateway_url(1)?,
            organization_id,
            admin_email: table.secrets.admin_email.clone(),
            admin_password: table.secrets.admin_password.clone(),
            api_key: table.secrets.api_key.clone(),
            legacy_api_key: table.secrets.legacy_api_key.clone(),
            enrollment_token: table.secrets.enrollment_token.clone(),
            nats_url: table.nats_url()?,
            nats_websocket_url: table.nats_websocket_url()?,
            postgres_url: table.database_url("df_owner")?,
            machine_id,
            gateway_urls: (1..=gateways)
                .map(|replica| table.gateway_url(replica))
                .collect::<Result<_>>()?,
            pids,
        };
        devfile.write(&path)?;
        Ok(devfile)
    }

    fn write_pids(&mut self) -> Result<()> {
        let Some(devfile) = &mut self.devfile else {
            return Ok(());
        };
        devfile.pids = devfile::pids(std::process::id(), &self.supervisor.entries());
        devfile.write(&self.data.devfile())
    }

    /// Starts what a later `up` asks for besides. What cannot be started is said and left for the back-off.
    fn reload(&mut self) -> Result<()> {
        let Some(launch) = self.data.launch()? else {
            return Ok(());
        };
        self.launch.replicas = self.launch.replicas.or_more(&launch.replicas);
        match self.start_services() {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => report(&format!("{error}")),
            Ok(()) => {}
        }
        let Some(devfile) = self.devfile.take() else {
            return Ok(());
        };
        let devfile = self.write_devfile(devfile.organization_id, devfile.machine_id)?;
        self.devfile = Some(devfile);
        Ok(())
    }

    /// Runs one command of one of our binaries to its end, and returns what it printed.
    fn step(
        &mut self,
        binary: &str,
        what: &str,
        command: impl FnOnce(&mut Table<'_>) -> Result<Command>,
    ) -> Result<String> {
        let command = command(&mut self.table())?;
        terminal::progress(binary, what);
        let log = self.data.log(&format!("{binary}-{what}"));
        self.supervisor
            .run_step(&format!("{binary} {what}"), command, &log, PATIENCE)
    }
}

/// Whether the product shows the machine ONLINE and has had a sample of it.
fn is_online(answer: &http::Response) -> bool {
    let machine = answer.json();
    let sampled = machine
        .get("latestSample")
        .is_some_and(|sample| !sample.is_null());
    answer.status == 200 && status_in(answer) == "ONLINE" && sampled
}

fn status_in(answer: &http::Response) -> String {
    answer
        .json()
        .get("status")
        .and_then(|status| status.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// A text field of the last line that is a JSON object (a program may print words for people before it).
fn text_in(printed: &str, field: &str) -> Option<String> {
    let objects = printed
        .lines()
        .rev()
        .map(serde_json::from_str::<serde_json::Value>);
    let whole = serde_json::from_str(printed);
    std::iter::once(whole)
        .chain(objects)
        .filter_map(std::result::Result::ok)
        .find_map(|object| Some(object.get(field)?.as_str()?.to_owned()))
}

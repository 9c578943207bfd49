//! Which processes make up the product, and what each is told. A new service is one line in [`SERVICES`].

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::folder::{Folder, Launch};
use crate::health::Probe;
use crate::ports::{Choice, Ports};
use crate::secrets::Secrets;
use crate::supervisor::child;
use crate::supervisor::spec::{Group, Spec};
use crate::terminal;

/// One of our services.
#[derive(Debug)]
pub struct Service {
    /// Its name: of the binary after `dashfleet-`, of its keys' folder, of its database roles after `df_`.
    pub name: &'static str,
    /// The default admin port of its first replica.
    pub admin: u16,
    /// Whether it owns data and gets database URLs.
    pub owns_data: bool,
    /// Whether it serves HTTP to people.
    pub serves_http: bool,
    /// Whether it tells agents where the bus is.
    pub enrolls_agents: bool,
    /// Whether it runs handlers, and needs the others until they have ended.
    pub runs_handlers: bool,
}

const OWNER: Service = Service {
    name: "",
    admin: 0,
    owns_data: true,
    serves_http: false,
    enrolls_agents: false,
    runs_handlers: false,
};

/// Every service, in the order in which they are started.
pub const SERVICES: &[Service] = &[
    Service {
        name: "identity",
        admin: 9101,
        enrolls_agents: true,
        ..OWNER
    },
    Service {
        name: "action",
        admin: 9102,
        ..OWNER
    },
    Service {
        name: "scheduler",
        admin: 9103,
        ..OWNER
    },
    Service {
        name: "worker",
        admin: 9104,
        owns_data: false,
        runs_handlers: true,
        ..OWNER
    },
    Service {
        name: "metrics",
        admin: 9105,
        ..OWNER
    },
    Service {
        name: "gateway",
        admin: 9100,
        owns_data: false,
        serves_http: true,
        ..OWNER
    },
];

/// How many connections each of a service's two pools holds at most.
const POOL_CONNECTIONS: usize = 8;
/// The relay keeps one of its own.
const RELAY_CONNECTIONS: usize = 1;

/// How long a worker's handlers may go on once everything stops, in milliseconds: whoever says `down` does not wait for
/// the longest. What is not done by then begins anew.
const WORKER_DRAIN_MS: &str = "5000";

/// How many connections to PostgreSQL one replica of each service holds at most, all together.
#[must_use]
pub fn connections_of_replicas() -> usize {
    let owners = SERVICES.iter().filter(|service| service.owns_data).count();
    owners * (2 * POOL_CONNECTIONS + RELAY_CONNECTIONS)
}

const HTTP: u16 = 8080;
const NATS: u16 = 4222;
const NATS_WEBSOCKET: u16 = 4280;
const POSTGRES: u16 = 5433;
const AGENT_ADMIN: u16 = 9106;

/// The machine's own policy file for its agent, which no server overrides. The kinds are the agent's defaults.
const POLICY: &str = "{\n  \"kinds\": [\"ping\", \"message\", \"restart\", \"reboot\"]\n}\n";

/// The agent starts its own kind of machine identity when the machine has none (containers).
const MACHINE_ID: &str = "/etc/machine-id";

/// Everything from which a process's environment is made.
pub struct Table<'a> {
    /// The product's folder.
    pub data: &'a Folder,
    /// What `up` asked for.
    pub launch: &'a Launch,
    /// The launcher's secrets.
    pub secrets: &'a Secrets,
    /// The ports.
    pub ports: &'a mut Ports,
}

impl Table<'_> {
    /// The folder of all keys.
    pub fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// Chooses a port and says when it is not the wanted one.
    fn port(&mut self, what: &str, asked: Option<u16>, default: u16) -> Result<u16> {
        let Choice { port, instead_of } = self.ports.choose(what, asked, default)?;
        if let Some(busy) = instead_of {
            terminal::progress(what, &format!("port {busy} is busy; using {port}"));
        }
        Ok(port)
    }

    /// PostgreSQL's port.
    pub fn postgres_port(&mut self) -> Result<u16> {
        self.port("postgres", None, POSTGRES)
    }

    /// The port of the gateway's replica (the first is 1).
    pub fn http_port(&mut self, replica: usize) -> Result<u16> {
        match replica {
            1 => self.port("gateway", self.launch.http, HTTP),
            _ => self.port(&replica_name("gateway", replica), None, 0),
        }
    }

    /// The URL of the gateway's replica.
    pub fn gateway_url(&mut self, replica: usize) -> Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.http_port(replica)?))
    }

    /// The bus's URL.
    pub fn nats_url(&mut self) -> Result<String> {
        Ok(format!(
            "nats://127.0.0.1:{}",
            self.port("nats", None, NATS)?
        ))
    }

    /// The bus's URL for WebSocket clients.
    pub fn nats_websocket_url(&mut self) -> Result<String> {
        Ok(format!(
            "ws://127.0.0.1:{}",
            self.port("nats-websocket", None, NATS_WEBSOCKET)?
        ))
    }

    /// The superuser's URL, for the bootstrap job only.
    pub fn superuser_url(&mut self) -> Result<String> {
        let port = self.postgres_port()?;
        let password = &self.secrets.postgres_password;
        Ok(format!(
            "postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
        ))
    }

    /// The URL of one of the product's database roles.
    pub fn database_url(&mut self, role: &str) -> Result<String> {
        let port = self.postgres_port()?;
        let path = self
            .keys()
            .join("postgres")
            .join(format!("{role}.password"));
        let password = fs::read_to_string(&path)
            .map_err(|source| Error::io("cannot read the password", &path, source))?;
        let password = password.trim();
        Ok(format!(
            "postgres://{role}:{password}@127.0.0.1:{port}/dashfleet?sslmode=disable"
        ))
    }

    /// One of our binaries.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.launch.binaries.join(format!("dashfleet-{name}"))
    }

    /// A command of one of our binaries that ends by itself.
    pub fn step(&self, name: &str, args: &[&str], env: &[(&str, OsString)]) -> Command {
        let mut command = Command::new(self.binary(name));
        let own: Vec<(String, OsString)> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        child::set_environment(&mut command, true, &own);
        command.args(args).current_dir(&self.data.path);
        command
    }

    /// nats-server, with this configuration, which was generated from the permission table.
    pub fn nats(&mut self, generated: &str) -> Result<Spec> {
        let port = self.port("nats", None, NATS)?;
        let websocket = self.port("nats-websocket", None, NATS_WEBSOCKET)?;
        let store = self.data.join("nats");
        let mut env = read_variables(&self.keys().join("nats.env"))?;
        env.extend([
            ("DASHFLEET_NATS_PORT".to_owned(), port.to_string().into()),
            (
                "DASHFLEET_NATS_WEBSOCKET_PORT".to_owned(),
                websocket.to_string().into(),
            ),
            // The server parses a variable as configuration, so a path is quoted.
            (
                "DASHFLEET_NATS_STORE".to_owned(),
                format!("{:?}", store.to_string_lossy()).into(),
            ),
            ("DASHFLEET_NATS_NAME".to_owned(), "dashfleet".into()),
        ]);
        let config = self.data.join("nats.conf");
        crate::files::replace_private(&config, on_loopback(generated).as_bytes())?;
        Ok(Spec {
            group: Group::Nats,
            program: self.launch.nats_server.clone(),
            args: vec!["--config".into(), config.into()],
            env,
            port: Some(port),
            probe: Probe::Nats(port),
            ..self.plain("nats", 1)
        })
    }

    /// One replica of a service.
    pub fn service(&mut self, service: &Service, replica: usize) -> Result<Spec> {
        let mut spec = self.plain(service.name, replica);
        let default = if replica == 1 { service.admin } else { 0 };
        let admin = self.port(&format!("{}-admin", spec.name), None, default)?;
        let bus = self.nats_url()?;
        let keys = self.keys().join(service.name);
        let mut tell =
            |name: &str, value: OsString| spec.env.push((format!("DASHFLEET_{name}"), value));
        tell("NATS_URLS", bus.clone().into());
        tell("KEYS", keys.into());
        tell("ADMIN_ADDR", format!("127.0.0.1:{admin}").into());
        if service.owns_data {
            let role = format!("df_{}", service.name);
            tell("DATABASE_CONNECTIONS", POOL_CONNECTIONS.to_string().into());
            tell("DATABASE_URL", self.database_url(&role)?.into());
            tell(
                "DATABASE_SYSTEM_URL",
                self.database_url(&format!("{role}_system"))?.into(),
            );
        }
        if service.enrolls_agents {
            tell("AGENT_NATS_URLS", bus.into());
        }
        // Where handlers may connect is a worker's own default: to nothing private, this machine's ports included, unless
        // whoever starts the launcher says DASHFLEET_EGRESS_ALLOW. It is passed on, and so is another time to drain.
        if service.runs_handlers && std::env::var_os("DASHFLEET_WORKER_DRAIN_MS").is_none() {
            tell("WORKER_DRAIN_MS", WORKER_DRAIN_MS.into());
        }
        let mut port = admin;
        if service.serves_http {
            port = self.http_port(replica)?;
            tell("HTTP_ADDR", format!("127.0.0.1:{port}").into());
            tell("NATS_WEBSOCKET_URLS", self.nats_websocket_url()?.into());
        }
        if service.runs_handlers {
            spec.group = Group::Worker;
        }
        spec.program = self.binary(service.name);
        spec.port = Some(port);
        spec.probe = Probe::Ready(admin);
        Ok(spec)
    }

    /// The environment of the agent, also for its enrolment.
    pub fn agent_environment(&mut self) -> Result<Vec<(String, OsString)>> {
        let policy = self.data.join("policy.json");
        if !policy.exists() {
            crate::files::replace_private(&policy, POLICY.as_bytes())?;
        }
        let admin = self.port("agent-admin", None, AGENT_ADMIN)?;
        let mut env: Vec<(String, OsString)> = vec![
            (
                "DASHFLEET_AGENT_STATE".to_owned(),
                self.data.join("agent").into(),
            ),
            ("DASHFLEET_AGENT_POLICY".to_owned(), policy.into()),
            // The machine that develops or tries the product is not rebooted by it.
            ("DASHFLEET_AGENT_REBOOT".to_owned(), "dry-run".into()),
            (
                "DASHFLEET_AGENT_ADMIN_ADDR".to_owned(),
                format!("127.0.0.1:{admin}").into(),
            ),
        ];
        if fs::read_to_string(MACHINE_ID).is_ok_and(|text| !text.trim().is_empty()) {
            return Ok(env);
        }
        let own = self.data.join("machine-id");
        if !own.exists() {
            let id = crate::secrets::random_hex(16)? + "\n";
            crate::files::replace_private(&own, id.as_bytes())?;
        }
        env.push(("DASHFLEET_AGENT_MACHINE_ID".to_owned(), own.into()));
        Ok(env)
    }

    /// The agent of this machine.
    pub fn agent(&mut self) -> Result<Spec> {
        let admin = self.port("agent-admin", None, AGENT_ADMIN)?;
        Ok(Spec {
            group: Group::Agent,
            program: self.binary("agent"),
            args: vec!["run".into()],
            env: self.agent_environment()?,
            port: Some(admin),
            probe: Probe::Alive,
            ..self.plain("agent", 1)
        })
    }

    fn plain(&self, kind: &str, replica: usize) -> Spec {
        let name = replica_name(kind, replica);
        Spec {
            log: self.data.log(&name),
            name,
            kind: kind.to_owned(),
            group: Group::Service,
            program: PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            inherit: true,
            user: None,
            folder: self.data.path.clone(),
            port: None,
            probe: Probe::Alive,
            cluster: None,
        }
    }
}

/// The first replica has the kind's name, the others a number.
pub fn replica_name(kind: &str, replica: usize) -> String {
    if replica <= 1 {
        kind.to_owned()
    } else {
        format!("{kind}-{replica}")
    }
}

/// The configuration of nats-server for this machine alone: a cluster's listens on every address.
pub fn on_loopback(config: &str) -> String {
    config.replace("\"0.0.0.0\"", "\"127.0.0.1\"")
}

/// Reads lines `NAME=VALUE`.
fn read_variables(path: &Path) -> Result<Vec<(String, OsString)>> {
    let text = fs::read_to_string(path).map_err(|source| Error::io("cannot read", path, source))?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.trim().to_owned(), value.trim().into()))
        .collect())
}

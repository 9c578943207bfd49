//! The product's programs on several nats-servers, some replicas of each service. The launcher starts one nats-server,
//! because one machine needs no more; whoever deploys for availability runs three.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::keeper::Keeper;
use testkit::{Folder, Nats, Postgres, TestDatabase};

use crate::agent::Door;
use crate::api::Api;
use crate::product::{program, signal};

/// Those that own data, in the order in which they are started.
const OWNERS: [&str; 4] = ["identity", "action", "scheduler", "metrics"];
const PATIENCE: Duration = Duration::from_secs(60);
/// The most lines of a log that are shown when a test fails.
const LINES_MAX: usize = 20;

/// Running programs, ended with the test.
#[derive(Debug)]
pub struct Clustered {
    /// The servers.
    pub servers: Vec<Nats>,
    /// The database of all services.
    pub database: TestDatabase,
    /// Where agents enrol.
    pub door: Door,
    api_key: String,
    services: Vec<Service>,
    folder: Folder,
}

#[derive(Debug)]
struct Service {
    name: String,
    child: Child,
    admin: u16,
    _keeper: Keeper,
}

impl Clustered {
    /// Starts so many nats-servers, and so many replicas of each service; each replica prefers another server.
    ///
    /// # Panics
    /// When they do not become ready.
    pub async fn start(servers: usize, replicas: usize) -> Self {
        let servers = Nats::start_cluster(servers).await;
        let database = Postgres::shared().await.database().await;
        let folder = Folder::new("clustered");
        let secret = |prefix: &str| format!("{prefix}_{}", uuid::Uuid::new_v4().simple());
        let http = testkit::folder::free_port();
        let door = Door {
            url: format!("http://127.0.0.1:{http}"),
            token: secret("dfe"),
            folder: folder.path().to_owned(),
        };
        let mut this = Self {
            servers,
            database,
            door,
            api_key: secret("dfk"),
            services: Vec::new(),
            folder,
        };
        this.organization_make();
        for place in 0..replicas {
            for name in OWNERS {
                this.service_start(name, place, &[]);
            }
            this.service_start("worker", place, &[]);
        }
        let address = [("DASHFLEET_HTTP_ADDR", format!("127.0.0.1:{http}"))];
        this.service_start("gateway", replicas, &address);
        for service in &this.services {
            ready(service).await;
        }
        this
    }

    /// The API with the owner's key.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(&self.door.url, &self.api_key)
    }

    /// The servers' URLs, beginning with one of them.
    #[must_use]
    pub fn urls(&self, first: usize) -> Vec<String> {
        let mut urls: Vec<String> = self.servers.iter().map(Nats::url).collect();
        urls.rotate_left(first % self.servers.len());
        urls
    }

    /// Kills one replica of a service (the first is 0) as a crash would. Nobody starts it again.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&mut self, service: &str, replica: usize) {
        let name = format!("{service}-{replica}");
        let place = self
            .services
            .iter()
            .position(|service| service.name == name);
        let mut service = self.services.remove(place.expect("a replica"));
        drop(service.child.kill());
        drop(service.child.wait());
    }

    /// A program of the product, told where everything is; its first server is `first`.
    fn command(&self, service: &str, first: usize) -> Command {
        let mut command = Command::new(program(&format!("dashfleet-{service}")));
        command
            .env("DASHFLEET_NATS_URLS", self.urls(first).join(","))
            .env("DASHFLEET_AGENT_NATS_URLS", self.urls(0).join(","))
            .env("DASHFLEET_LOG_FORMAT", "text")
            .stdin(Stdio::null());
        if let Some(first) = self.servers.first() {
            command.env("DASHFLEET_KEYS", first.keys(service));
        }
        if OWNERS.contains(&service) {
            let role = format!("df_{service}");
            command
                .env("DASHFLEET_DATABASE_URL", self.database.url(&role))
                .env(
                    "DASHFLEET_DATABASE_SYSTEM_URL",
                    self.database.url(&format!("{role}_system")),
                );
        }
        command
    }

    fn organization_make(&self) {
        let output = self
            .command("identity", 0)
            .arg("bootstrap")
            .env("DASHFLEET_BOOTSTRAP_ADMIN_EMAIL", "admin@example.com")
            .env("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", &self.api_key)
            .env("DASHFLEET_BOOTSTRAP_API_KEY", &self.api_key)
            .env("DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN", &self.door.token)
            .output()
            .expect("identity");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "identity bootstrap: {said}");
    }

    fn service_start(&mut self, service: &str, replica: usize, more: &[(&str, String)]) {
        let name = format!("{service}-{replica}");
        let admin = testkit::folder::free_port();
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log")));
        let log = log.expect("a log");
        let child = self
            .command(service, replica)
            .env("DASHFLEET_ADMIN_ADDR", format!("127.0.0.1:{admin}"))
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a service");
        // Also when the test is killed nothing is left.
        let keeper = Keeper::watch(
            child.id(),
            "KILL",
            &self.folder.path().display().to_string(),
        );
        self.services.push(Service {
            name,
            child,
            admin,
            _keeper: keeper,
        });
    }
}

async fn ready(service: &Service) {
    let api = Api::new(&format!("http://127.0.0.1:{}", service.admin), "");
    let what = format!("{} is ready", service.name);
    testkit::eventually(&what, PATIENCE, || async {
        let answer = api.send(reqwest::Method::GET, "/readyz", &[], None).await;
        answer.ok()?.0.is_success().then_some(())
    })
    .await;
}

impl Drop for Clustered {
    fn drop(&mut self) {
        for service in &mut self.services {
            signal(service.child.id().cast_signed(), libc::SIGTERM);
        }
        for service in &mut self.services {
            drop(service.child.wait());
        }
        if !std::thread::panicking() {
            return;
        }
        for service in &self.services {
            let log = self.folder.path().join(format!("{}.log", service.name));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let alarming = |line: &&str| line.contains("WARN") || line.contains("ERROR");
            for line in text.lines().filter(alarming).take(LINES_MAX) {
                println!("{}: {line}", service.name);
            }
        }
    }
}

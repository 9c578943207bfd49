//! A real PostgreSQL, one per test process; a database per test, cloned from one migrated template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use database::setup;
use tokio::sync::{Mutex, OnceCell};

use crate::folder::free_port;
use crate::keeper::Keeper;

static SHARED: OnceCell<Postgres> = OnceCell::const_new();
const PASSWORD: &str = "test";
const TEMPLATE: &str = "dashfleet_template";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    pid: u32,
    cloning: Mutex<()>,
    _keeper: Keeper,
}

/// A migrated, empty database of one test.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    port: u16,
}

impl TestDatabase {
    /// The URL by which a role reaches it.
    #[must_use]
    pub fn url(&self, role: &str) -> String {
        format!(
            "postgres://{role}:{PASSWORD}@127.0.0.1:{}/{}",
            self.port, self.name
        )
    }

    /// A service's pools on it.
    ///
    /// # Panics
    /// Never: the URLs are well formed.
    #[must_use]
    pub fn pools(&self, service: &str) -> database::Pools {
        database::Pools::connect(
            service,
            &self.url(&format!("df_{service}")),
            &self.url(&format!("df_{service}_system")),
            8,
        )
        .expect("well-formed URLs")
    }
}

impl Postgres {
    /// The server of this test process, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// A server of one's own, to be stopped and killed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!(
            "dashfleet-postgres-{}",
            uuid::Uuid::new_v4().simple()
        ));
        std::fs::create_dir_all(&folder).expect("a folder");
        let data = folder.join("data");
        let password_file = folder.join("password");
        std::fs::write(&password_file, PASSWORD).expect("a file");
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres").arg(&folder));
        }
        let mut initdb = as_postgres(&binary("initdb"));
        run(initdb
            .args([
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "-A",
                "scram-sha-256",
                "-U",
                "postgres",
            ])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("-D")
            .arg(&data));
        let port = free_port();
        let pid = launch(&data, port);
        let keeper = Keeper::watch(pid, "QUIT", &folder.display().to_string());
        let server = Self {
            port,
            pid,
            cloning: Mutex::new(()),
            _keeper: keeper,
        };
        let admin = server.admin_url("postgres");
        let passwords: BTreeMap<_, _> = setup::roles()
            .into_iter()
            .map(|role| (role, PASSWORD.to_owned()))
            .collect();
        let ready = crate::eventually("PostgreSQL answers", Duration::from_secs(30), || async {
            setup::ensure_roles(&admin, &passwords, TEMPLATE).await.ok()
        });
        ready.await;
        let owner = setup::url_of(&admin, setup::OWNER, PASSWORD, TEMPLATE).expect("a URL");
        setup::migrate(&owner).await.expect("migrations");
        server
    }

    /// The process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The superuser's URL; for making databases, never for the code under test.
    #[must_use]
    pub fn admin_url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// A new database.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn database(&self) -> TestDatabase {
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        // The template must not be in use while it is copied.
        let _one_at_a_time = self.cloning.lock().await;
        setup::clone_database(&self.admin_url("postgres"), TEMPLATE, &name)
            .await
            .expect("a database");
        TestDatabase {
            name,
            port: self.port,
        }
    }
}

#[allow(clippy::zombie_processes)] // ended by its keeper, with this process
fn launch(data: &Path, port: u16) -> u32 {
    let mut postgres = as_postgres(&binary("postgres"));
    postgres.arg("-D").arg(data).args(["-p", &port.to_string()]);
    // What a crash of the machine would lose does not matter to a test; a crash of the server loses nothing.
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "max_connections=400",
        "shared_buffers=64MB",
    ] {
        postgres.args(["-c", setting]);
    }
    let child = postgres
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("PostgreSQL starts");
    child.id()
}

/// The folder of PostgreSQL's programs.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn programs() -> PathBuf {
    if let Ok(folder) = std::env::var("DASHFLEET_POSTGRES_BIN") {
        return folder.into();
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path().join("bin"))
                .filter(|path| path.join("initdb").exists())
                .collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions.pop().expect(
        "PostgreSQL's programs: install the package `postgresql`, or set DASHFLEET_POSTGRES_BIN",
    )
}

fn binary(name: &str) -> PathBuf {
    programs().join(name)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.starts_with(b"0\n")
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ])
        .arg(program)
        .current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

//! A real nats-server with the product's own configuration and keys, one per world.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bus::{Bus, BusConfig};

use crate::folder::free_port;
use crate::keeper::Keeper;

/// A running server.
#[derive(Debug)]
pub struct Nats {
    folder: PathBuf,
    port: u16,
    websocket_port: u16,
    pid: u32,
    _keeper: Keeper,
}

impl Nats {
    /// Starts one, with all streams and consumers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let folder =
            std::env::temp_dir().join(format!("dashfleet-nats-{}", uuid::Uuid::new_v4().simple()));
        dashfleet_bootstrap::keys::ensure(&folder.join("keys")).expect("keys");
        std::fs::write(
            folder.join("server.conf"),
            contract::server_config::server_config(),
        )
        .expect("a file");
        let (port, websocket_port) = (free_port(), free_port());
        let (pid, keeper) = launch(&folder, port, websocket_port);
        let server = Self {
            folder,
            port,
            websocket_port,
            pid,
            _keeper: keeper,
        };
        // A client that finds nobody listening waits up to a second before it tries again.
        let listens = || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        };
        drop(crate::eventually("nats-server listens", Duration::from_secs(10), listens).await);
        let bus = server.bus("bootstrap").await;
        bus.ensure_streams(1).await.expect("streams");
        bus.drain().await;
        server
    }

    /// Kills the server as a crash would, and starts it again on the same port and store.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.launch_again();
    }

    /// Kills the server as a crash would.
    pub fn kill(&self) {
        drop(
            Command::new("kill")
                .args(["-9", &self.pid.to_string()])
                .status(),
        );
    }

    /// Starts it again on the same port and store.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch_again(&mut self) {
        // The first keeper goes on waiting: it removes the folder at the end.
        let (pid, keeper) = launch(&self.folder, self.port, self.websocket_port);
        self.pid = pid;
        std::mem::forget(std::mem::replace(&mut self._keeper, keeper));
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its WebSocket URL.
    #[must_use]
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.websocket_port)
    }

    /// The keys folder.
    #[must_use]
    pub fn keys_dir(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// One service's part of the keys folder.
    #[must_use]
    pub fn keys(&self, service: &str) -> PathBuf {
        self.keys_dir().join(service)
    }

    /// The seed of a user of the permission table.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn seed(&self, user: &str) -> String {
        let user = contract::permissions::user(user).expect("a user of the table");
        runtime::keys::read_seed(&self.keys_dir(), &user.seed_file()).expect("a seed")
    }

    /// A connection as a user of the permission table.
    ///
    /// # Panics
    /// When it is not connected within ten seconds.
    pub async fn bus(&self, user: &str) -> Bus {
        let service = user.split('-').next().unwrap_or(user);
        let bus = Bus::connect(BusConfig::service(
            vec![self.url()],
            None,
            self.seed(user),
            service,
        ))
        .await
        .expect("a bus");
        assert!(
            bus.wait_connected(Duration::from_secs(10)).await,
            "{user} does not connect"
        );
        bus
    }
}

#[allow(clippy::zombie_processes)] // ended by its keeper, with this process
fn launch(folder: &Path, port: u16, websocket_port: u16) -> (u32, Keeper) {
    let mut command = Command::new(program());
    command
        .arg("-c")
        .arg(folder.join("server.conf"))
        .arg("-l")
        .arg(folder.join("server.log"));
    let public = std::fs::read_to_string(
        folder
            .join("keys")
            .join(dashfleet_bootstrap::keys::PUBLIC_KEYS),
    )
    .expect("public keys");
    for (name, value) in public.lines().filter_map(|line| line.split_once('=')) {
        command.env(name, value);
    }
    command
        .env("DASHFLEET_NATS_NAME", format!("test-{port}"))
        .env("DASHFLEET_NATS_PORT", port.to_string())
        .env("DASHFLEET_NATS_WEBSOCKET_PORT", websocket_port.to_string())
        .env("DASHFLEET_NATS_STORE", folder.join("store"));
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts");
    let pid = child.id();
    (
        pid,
        Keeper::watch(pid, "KILL", &folder.display().to_string()),
    )
}

/// The server's program: `DASHFLEET_NATS_SERVER`, else what the launcher fetched, else what the PATH has.
///
/// # Panics
/// Never: the last choice is a name for the system to find.
#[must_use]
pub fn program() -> PathBuf {
    if let Ok(path) = std::env::var("DASHFLEET_NATS_SERVER") {
        return path.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../target/tools/nats-server-2.15.1/nats-server");
    if fetched.exists() {
        fetched
    } else {
        "nats-server".into()
    }
}

//! Real nats-servers with the product's own configuration and keys: one per world, or a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bus::{Bus, BusConfig};
use domain::job::POOL_DEFAULT;

use crate::folder::free_port;
use crate::keeper::Keeper;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often one is started before it is given up.
const STARTS: usize = 3;

/// A running server.
#[derive(Debug)]
pub struct Nats {
    folder: PathBuf,
    /// Of the first of a cluster: they share the keys.
    keys: PathBuf,
    port: u16,
    websocket_port: u16,
    /// What makes it a part of a cluster; nothing for a server alone.
    cluster: Vec<String>,
    /// The pools whose workers it knows.
    pools: Vec<String>,
    pid: u32,
    _keeper: Keeper,
}

impl Nats {
    /// Starts one, with all streams and consumers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        Self::start_with_pools(POOL_DEFAULT).await
    }

    /// Starts one for workers of these pools, `default,gpu`, with all streams and consumers.
    ///
    /// # Panics
    /// When it cannot be started, or these are no pools.
    pub async fn start_with_pools(pools: &str) -> Self {
        let pools = domain::job::pools(pools).expect("pools");
        let mut server = Self::alone(&pools);
        for _ in 0..STARTS {
            if tokio::time::timeout(PATIENCE / 3, server.listens())
                .await
                .is_ok()
            {
                break;
            }
            // Somebody else took its port in the same moment.
            server = Self::alone(&pools);
        }
        server.listens().await;
        Box::pin(server.streams_ensure(1)).await;
        server
    }

    fn alone(pools: &[String]) -> Self {
        let folder = new_folder();
        dashfleet_bootstrap::keys::ensure(&folder.join("keys"), pools).expect("keys");
        let keys = folder.join("keys");
        Self::in_folder(folder, keys, Vec::new(), pools)
    }

    /// Starts a cluster of so many, with all streams and consumers on three of them (or on one of fewer).
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_cluster(size: usize) -> Vec<Self> {
        let mut servers = Self::cluster(size);
        for _ in 0..STARTS {
            let all = async {
                for server in &servers {
                    server.listens().await;
                }
            };
            if tokio::time::timeout(PATIENCE / 3, all).await.is_ok() {
                break;
            }
            servers = Self::cluster(size);
        }
        for server in &servers {
            server.listens().await;
        }
        if let Some(first) = servers.first() {
            Box::pin(first.streams_ensure(if size < 3 { 1 } else { 3 })).await;
        }
        servers
    }

    fn cluster(size: usize) -> Vec<Self> {
        let routes: Vec<String> = (0..size)
            .map(|_| format!("nats://127.0.0.1:{}", free_port()))
            .collect();
        let folders: Vec<PathBuf> = (0..size).map(|_| new_folder()).collect();
        let keys = folders.first().expect("a server").join("keys");
        let pools = [POOL_DEFAULT.to_owned()];
        dashfleet_bootstrap::keys::ensure(&keys, &pools).expect("keys");
        let mut servers = Vec::new();
        for (folder, own) in folders.into_iter().zip(&routes) {
            let others: Vec<&str> = routes
                .iter()
                .filter(|route| *route != own)
                .map(String::as_str)
                .collect();
            let flags = [
                "--cluster_name",
                "test",
                "--cluster",
                own,
                "--routes",
                &others.join(","),
            ];
            let flags = flags.map(str::to_owned).to_vec();
            servers.push(Self::in_folder(folder, keys.clone(), flags, &pools));
        }
        servers
    }

    fn in_folder(folder: PathBuf, keys: PathBuf, cluster: Vec<String>, pools: &[String]) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(
            folder.join("server.conf"),
            contract::server_config::server_config(pools),
        )
        .expect("a file");
        let (port, websocket_port) = (free_port(), free_port());
        let (pid, keeper) = launch(&folder, &keys, port, websocket_port, &cluster);
        Self {
            folder,
            keys,
            port,
            websocket_port,
            cluster,
            pools: pools.to_vec(),
            pid,
            _keeper: keeper,
        }
    }

    /// A client that finds nobody listening waits up to a second before it tries again.
    async fn listens(&self) {
        let connect = || async {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .ok()
        };
        drop(crate::eventually("nats-server listens", PATIENCE, connect).await);
    }

    async fn streams_ensure(&self, replicas: usize) {
        let bus = self.bus("bootstrap").await;
        // A cluster first elects a leader.
        let end = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = bus.ensure_streams(replicas, &self.pools).await {
            assert!(
                tokio::time::Instant::now() < end,
                "no streams in {PATIENCE:?}: {error}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bus.drain().await;
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
        let (pid, keeper) = launch(
            &self.folder,
            &self.keys,
            self.port,
            self.websocket_port,
            &self.cluster,
        );
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
        self.keys.clone()
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

    /// How a user of the permission table connects; a worker's is `worker-<pool>`.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn bus_config(&self, user: &str) -> BusConfig {
        let (urls, seed) = (vec![self.url()], self.seed(user));
        match contract::work::pool_of(user) {
            Some(pool) => BusConfig::worker(urls, None, seed, pool),
            None => {
                let service = user.split('-').next().unwrap_or(user);
                BusConfig::service(urls, None, seed, service)
            }
        }
    }

    /// A connection as a user of the permission table.
    ///
    /// # Panics
    /// When it is not connected within ten seconds.
    pub async fn bus(&self, user: &str) -> Bus {
        let bus = Bus::connect(self.bus_config(user)).await.expect("a bus");
        assert!(
            bus.wait_connected(Duration::from_secs(10)).await,
            "{user} does not connect"
        );
        bus
    }
}

fn new_folder() -> PathBuf {
    std::env::temp_dir().join(format!("dashfleet-nats-{}", uuid::Uuid::new_v4().simple()))
}

#[allow(clippy::zombie_processes)] // ended by its keeper, with this process
fn launch(
    folder: &Path,
    keys: &Path,
    port: u16,
    websocket_port: u16,
    cluster: &[String],
) -> (u32, Keeper) {
    let mut command = Command::new(program());
    command
        .arg("-c")
        .arg(folder.join("server.conf"))
        .arg("-l")
        .arg(folder.join("server.log"))
        .args(cluster);
    let public = std::fs::read_to_string(keys.join(dashfleet_bootstrap::keys::PUBLIC_KEYS))
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

//! The other queues: programs of Node's beside this file (`peers/`), installed once below `target`, which this bench
//! leads step by step over their standard input and output (`peers/turn.mjs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dashfleet_tests::product::repository;
use dashfleet_tests::{Product, debian};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::redis::Redis;
use crate::usage::{self, Part};
use crate::{CALL, Load, WARM_UP, text};

/// Redis and its libraries. The server's program lies in the package of its tools.
const REDIS: [&str; 5] = [
    "redis-server",
    "redis-tools",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
];
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What of the peers can be had here.
pub struct Peers {
    packages: Option<PathBuf>,
    redis: Option<PathBuf>,
}

impl Peers {
    /// Gets what is missing, and says what cannot be had.
    pub fn get() -> Self {
        let packages = packages();
        let redis = packages
            .as_ref()
            .and_then(|_| debian::program(&REDIS, "redis-server", "REDIS_SERVER"));
        Self { packages, redis }
    }

    pub async fn bullmq(&self, load: &Load) -> Option<Peer> {
        let redis = Redis::start(self.redis.as_deref()?).await;
        let mut peer = Peer::start(
            self.packages.as_deref()?,
            "bullmq.mjs",
            &redis.port.to_string(),
            load,
        );
        peer.parts.push(("redis", vec![redis.pid()]));
        peer.redis = Some(redis);
        Some(peer)
    }

    /// In the product's own database, in a schema of its own.
    pub fn graphile(&self, product: &Product, load: &Load) -> Option<Peer> {
        let url = text(&product.dev()["postgresUrl"]);
        let mut peer = Peer::start(self.packages.as_deref()?, "graphile.mjs", &url, load);
        peer.parts.extend(usage::parts(product, &["postgres"]));
        Some(peer)
    }
}

/// A program of Node's, running.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub parts: Vec<Part>,
    redis: Option<Redis>,
}

impl Peer {
    fn start(packages: &Path, script: &str, server: &str, load: &Load) -> Self {
        let numbers = [load.jobs, load.at_once, WARM_UP, CALL];
        let mut child = tokio::process::Command::new("node")
            .current_dir(packages)
            .arg(script)
            .arg(server)
            .args(numbers.map(|number| number.to_string()))
            .env("NODE_ENV", "production")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self {
            input: child.stdin.take().expect("its input"),
            output: BufReader::new(child.stdout.take().expect("its output")).lines(),
            parts: vec![("node", vec![pid.expect("a process")])],
            child,
            redis: None,
        }
    }

    /// Waits until it has done a step; how long that took, as it says.
    pub async fn said(&mut self, step: &str) -> Duration {
        let line = timeout(PATIENCE, self.output.next_line())
            .await
            .expect("a word in time")
            .expect("its output")
            .unwrap_or_else(|| panic!("it ended before it was {step}"));
        let said: Value = serde_json::from_str(&line).expect("JSON");
        assert!(said[step].is_number(), "not {step}: {line}");
        Duration::from_secs_f64(said["ms"].as_f64().expect("milliseconds") / 1_000.0)
    }

    /// Lets it do the next step.
    pub async fn go(&mut self) {
        self.input.write_all(b"go\n").await.expect("its input");
        self.input.flush().await.expect("its input");
    }

    /// Lets it end, and its server after it.
    pub async fn end(self) {
        let Self {
            mut child,
            input,
            output,
            redis,
            ..
        } = self;
        drop(input);
        let ended = timeout(PATIENCE, child.wait()).await;
        let status = ended.expect("it ends").expect("it ran");
        assert!(status.success(), "{status}");
        drop((output, redis));
    }
}

/// The folder with the programs and their packages; `None` (and a line that says so) where they cannot be had.
fn packages() -> Option<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/executions/peers");
    let folder = repository().join("target/tools/bench-peers");
    std::fs::create_dir_all(&folder).expect("a folder");
    for file in std::fs::read_dir(&from).expect("a folder").flatten() {
        std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
    }
    let wanted = std::fs::read_to_string(from.join("package-lock.json")).expect("a lock file");
    let made_for = folder.join("made-for");
    if std::fs::read_to_string(&made_for).is_ok_and(|made| made == wanted) {
        return Some(folder);
    }
    // Not `npm ci`: the lock file lacks parts of a package for some other platforms, which not every registry has.
    let installed = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .current_dir(&folder)
        .output();
    match installed {
        Ok(output) if output.status.success() => {
            std::fs::write(&made_for, wanted).expect("a file");
            Some(folder)
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("npm could not install the peers: measured without them\n{said}");
            None
        }
        Err(error) => {
            println!("there is no npm ({error}): measured without the peers");
            None
        }
    }
}

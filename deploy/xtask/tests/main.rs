//! The launcher's tests: real processes, a real PostgreSQL, a real nats-server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]
#![cfg(target_os = "linux")]

#[path = "main/args.rs"]
mod args;
#[path = "main/backoff.rs"]
mod backoff;
#[path = "main/cluster.rs"]
mod cluster;
#[path = "main/devfile.rs"]
mod devfile;
#[path = "main/files.rs"]
mod files;
#[path = "main/folder.rs"]
mod folder;
#[path = "main/health.rs"]
mod health;
#[path = "main/http.rs"]
mod http;
#[path = "main/orphans.rs"]
mod orphans;
#[path = "main/ports.rs"]
mod ports;
#[path = "main/process.rs"]
mod process;
#[path = "main/replicas.rs"]
mod replicas;
#[path = "main/rotation.rs"]
mod rotation;
#[path = "main/status.rs"]
mod status;
#[path = "main/supervisor.rs"]
mod supervisor;
#[path = "main/table.rs"]
mod table;
#[path = "main/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use launcher::health::Probe;
use launcher::supervisor::spec::{Group, Spec};

/// A folder that is removed at the end of the test.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dashfleet-xtask-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        launcher::files::make_folder(&path, 0o711).unwrap();
        Self {
            path: path.canonicalize().unwrap(),
        }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}

/// A process to supervise that runs this shell script.
fn script(folder: &Path, name: &str, group: Group, text: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        kind: name.to_owned(),
        group,
        program: "/bin/sh".into(),
        args: vec!["-c".into(), text.into()],
        env: Vec::new(),
        inherit: true,
        user: None,
        folder: folder.to_owned(),
        log: folder.join(format!("{name}.log")),
        port: None,
        probe: Probe::Alive,
        cluster: None,
    }
}

/// Waits until something holds; fails after ten seconds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

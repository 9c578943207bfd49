//! A bus, a stand-in for the scheduler, and workers: in this process, or as one of their own.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashfleet_worker::{Config, Context, Failure, Handler, Handlers};
use futures::future::BoxFuture;
use runtime::{Reader, Shutdown};
use serde_json::Value;
use testkit::{Folder, Nats};
use tokio::task::JoinHandle;

use super::scheduler::{PATIENCE, Scheduler};

/// What differs between tests.
pub struct Options {
    pub concurrency: usize,
    pub lease: Duration,
    pub drain: Duration,
    pub allow: String,
    pub handlers: Handlers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 5,
            lease: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            allow: String::new(),
            handlers: Handlers::builtin(),
        }
    }
}

pub struct World {
    pub nats: Nats,
    pub scheduler: Scheduler,
    pub folder: Folder,
    shutdown: Shutdown,
    worker: Option<JoinHandle<()>>,
}

impl World {
    pub async fn new(options: Options) -> Self {
        let mut world = Self::without_worker(options.lease).await;
        let mut reader = Reader::from_pairs(world.variables().into_iter().chain([
            (
                "DASHFLEET_WORKER_CONCURRENCY",
                options.concurrency.to_string(),
            ),
            (
                "DASHFLEET_WORKER_DRAIN_MS",
                options.drain.as_millis().to_string(),
            ),
            ("DASHFLEET_EGRESS_ALLOW", options.allow),
        ]));
        let config = Config::read(&mut reader).unwrap();
        let (ending, handlers) = (world.shutdown.clone(), options.handlers);
        world.worker = Some(tokio::spawn(async move {
            dashfleet_worker::run_with(config, handlers, ending)
                .await
                .unwrap();
        }));
        world.session(1).await;
        world
    }

    pub async fn with(name: &str, handler: impl Handler + 'static) -> Self {
        Self::new(Options {
            handlers: Handlers::builtin().with(name, handler),
            ..Options::default()
        })
        .await
    }

    pub async fn without_worker(lease: Duration) -> Self {
        let nats = Nats::start().await;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap();
        let scheduler = Scheduler::start(&nats, lease_ms).await;
        Self {
            nats,
            scheduler,
            folder: Folder::new("worker"),
            shutdown: Shutdown::new(),
            worker: None,
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DASHFLEET_NATS_URLS", self.nats.url()),
            (
                "DASHFLEET_KEYS",
                self.nats.keys("worker").display().to_string(),
            ),
            ("DASHFLEET_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("DASHFLEET_SHUTDOWN_MS", "3000".to_owned()),
            ("DASHFLEET_WORKER_NAME", "test".to_owned()),
            (
                "DASHFLEET_WORKER_WITNESS",
                self.folder.path().join("witness").display().to_string(),
            ),
        ]
    }

    /// Waits for the n-th session.
    pub async fn session(&self, n: usize) {
        self.scheduler
            .until("a session begins", |state| {
                (state.begins.len() >= n).then_some(())
            })
            .await;
    }

    /// Tells the worker to end, as SIGTERM does.
    pub fn stop(&self) {
        self.shutdown.begin();
    }

    /// Waits until it has ended.
    pub async fn stopped(&mut self) {
        let worker = self.worker.take().expect("a worker");
        tokio::time::timeout(PATIENCE, worker)
            .await
            .expect("the worker ends")
            .unwrap();
    }

    /// A worker as a process.
    pub fn process(&self) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_dashfleet-worker"))
            .env_clear()
            .envs(self.variables())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker starts");
        Process(child)
    }

    /// What the witness saw: word, execution, attempt, nanoseconds since boot.
    pub fn witnessed(&self) -> Vec<(String, String, i32, u128)> {
        let text = std::fs::read_to_string(self.folder.path().join("witness")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let parts: Vec<&str> = line.split(' ').collect();
                // Then the process, and of what was cut the last step.
                let more = 1 + usize::from(parts[0] == "cut");
                assert_eq!(parts.len(), 4 + more, "{line}");
                (
                    parts[0].to_owned(),
                    parts[1].to_owned(),
                    parts[2].parse().unwrap(),
                    parts[3].parse().unwrap(),
                )
            })
            .collect()
    }
}

/// A worker in a process of its own; it ends with the test.
pub struct Process(Child);

impl Process {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success(), "{name}");
    }

    /// Waits for its end, and says whether it was a clean one.
    pub async fn ended(&mut self) -> bool {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            assert!(tokio::time::Instant::now() < end, "the worker goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A handler that is a function.
pub struct Does<F>(F);

impl<F> Handler for Does<F>
where
    F: for<'a> Fn(&'a Context) -> BoxFuture<'a, Result<Value, Failure>> + Send + Sync,
{
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        (self.0)(context)
    }
}

pub fn does<F>(work: F) -> Does<F>
where
    F: for<'a> Fn(&'a Context) -> BoxFuture<'a, Result<Value, Failure>> + Send + Sync + 'static,
{
    Does(work)
}

/// Counts what runs at once.
#[derive(Clone, Default)]
pub struct Gauge {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Gauge {
    pub fn enter(&self) -> Inside {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        Inside(self.now.clone())
    }

    pub fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub fn all(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }
}

/// One that runs.
pub struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

//! The whole product as `cargo xtask up --detach` runs it, in a folder of the test's own, ended with the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};

use serde_json::Value;

use crate::agent::Door;
use crate::api::Api;

/// Whether anything in this process has panicked: then the logs are kept.
static PANICKED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// A running product.
#[derive(Debug)]
pub struct Product {
    folder: PathBuf,
}

impl Product {
    /// Starts one with this many replicas of each service. Several run beside each other.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &[])
    }

    /// Like [`Product::start`], with variables in the environment of everything that runs.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(replicas: usize, environment: &[(&str, &str)]) -> Self {
        Self::start_as(&replicas.to_string(), environment)
    }

    /// Like [`Product::start_with`], with replicas as the launcher takes them: `2,worker=3` are two of each service, and
    /// three workers.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_as(replicas: &str, environment: &[(&str, &str)]) -> Self {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICKED.store(true, Ordering::Relaxed);
                before(panic);
            }));
        });
        let folder = std::env::temp_dir().join(format!(
            "dashfleet-product-{}",
            uuid::Uuid::new_v4().simple()
        ));
        std::fs::create_dir_all(&folder).expect("a folder");
        let product = Self { folder };
        let http = testkit::folder::free_port().to_string();
        let mut up = vec!["up", "--detach", "--http", &http, "--replicas", replicas];
        // Benches are built for speed, and so is what they measure.
        if !cfg!(debug_assertions) {
            up.push("--release");
        }
        product.xtask(&up, environment);
        product
    }

    fn xtask(&self, arguments: &[&str], environment: &[(&str, &str)]) {
        let output = Command::new(program("xtask"))
            .env("DASHFLEET_BUILT", "1")
            .envs(environment.iter().copied())
            .args(arguments)
            .arg("--data")
            .arg(&self.folder)
            .current_dir(repository())
            .output()
            .expect("the launcher");
        assert!(
            output.status.success(),
            "xtask {arguments:?}:\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `dev.json` as it is now: pids change as the supervisor restarts.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn dev(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.join("dev.json")).expect("dev.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The API with the owner's key.
    #[must_use]
    pub fn api(&self) -> Api {
        let dev = self.dev();
        Api::new(
            dev["url"].as_str().expect("url"),
            dev["apiKey"].as_str().expect("apiKey"),
        )
    }

    /// Where machines enrol.
    ///
    /// # Panics
    /// When `dev.json` is not there.
    #[must_use]
    pub fn door(&self) -> Door {
        let dev = self.dev();
        let text = |name: &str| dev[name].as_str().expect("a text").to_owned();
        Door {
            url: text("url"),
            token: text("enrollmentToken"),
            folder: self.folder.clone(),
        }
    }

    /// The machine of the launcher's own agent.
    #[must_use]
    pub fn machine(&self) -> String {
        self.dev()["machineId"]
            .as_str()
            .expect("machineId")
            .to_owned()
    }

    /// The pids of a part that run now.
    #[must_use]
    pub fn pids(&self, part: &str) -> Vec<i32> {
        let pids = &self.dev()["pids"][part];
        let many = pids
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![pids.clone()]);
        many.iter()
            .filter_map(Value::as_i64)
            .filter_map(|pid| i32::try_from(pid).ok())
            .collect()
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let panicked = PANICKED.load(Ordering::Relaxed);
        if panicked {
            println!(
                "the product's logs are in {}",
                self.folder.join("logs").display()
            );
        }
        let down = Command::new(program("xtask"))
            .args(["down", "--data"])
            .arg(&self.folder)
            .current_dir(repository())
            .output();
        if !panicked && down.is_ok_and(|output| output.status.success()) {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// The processes that this one began.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|child: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // After the name, which may have spaces: state, parent.
            let rest = stat.rsplit(") ").next().unwrap_or_default().to_owned();
            rest.split(' ').nth(1) == Some(pid.to_string().as_str())
        })
        .collect()
}

/// The top of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program of the workspace, built with the tests.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("this program");
    while folder.pop() {
        let program = folder.join(name);
        if program.is_file() {
            return program;
        }
    }
    panic!("{name} was not built: use `cargo build --workspace`")
}

/// A signal that this process sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// To whom.
    pub pid: i32,
    /// Which.
    pub signal: i32,
    /// When, in nanoseconds since boot: who was stopped or killed did nothing from then on, and who goes on nothing before.
    pub at: u64,
}

/// All of them.
static SENT: Mutex<Vec<Sent>> = Mutex::new(Vec::new());

/// The signals that this process has sent so far.
///
/// # Panics
/// When something panicked while it noted one.
#[must_use]
pub fn sent() -> Vec<Sent> {
    SENT.lock().expect("the signals").clone()
}

/// Sends a signal to a process that the test or its product started.
///
/// # Panics
/// When it is not there.
pub fn signal(pid: i32, signal: i32) {
    assert!(signal_if_there(pid, signal), "there is no process {pid}");
}

/// Like [`signal`], to one that may be gone: whether it was there.
///
/// # Panics
/// When it may not be sent.
pub fn signal_if_there(pid: i32, signal: i32) -> bool {
    let before = boot_now();
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::kill(pid, signal) };
    if answer != 0 {
        let error = std::io::Error::last_os_error();
        let gone = Some(libc::ESRCH);
        assert_eq!(error.raw_os_error(), gone, "kill({pid}, {signal}): {error}");
        return false;
    }
    if signal == libc::SIGSTOP {
        stopped(pid);
    }
    let at = match signal {
        libc::SIGCONT => before,
        _ => boot_now(),
    };
    let sent = Sent { pid, signal, at };
    SENT.lock().expect("the signals").push(sent);
    true
}

/// Waits until all threads of a process stand still: kill(2) does not, and where processors are busy they go on for a while. One that is
/// gone stands still.
fn stopped(pid: i32) {
    let state = |stat: String| {
        let (_, rest) = stat.rsplit_once(')')?;
        rest.trim_start().chars().next()
    };
    for _ in 0..5_000 {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let stats = threads.filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat"));
            stat.ok().and_then(state)
        });
        if stats.into_iter().all(|state| "TtZX".contains(state)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the process {pid} goes on after SIGSTOP");
}

#[cfg(target_os = "linux")]
const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
/// Where tests are written, and not run.
#[cfg(not(target_os = "linux"))]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Nanoseconds since boot, suspension included: the clock of the witness.
fn boot_now() -> u64 {
    // SAFETY: a timespec is integers, and zeros are such.
    #[allow(unsafe_code)]
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: clock_gettime(2) writes one timespec, which is ours.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::clock_gettime(CLOCK, &raw mut now) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    let whole = |part: i64| u64::try_from(part).expect("a time");
    whole(now.tv_sec) * 1_000_000_000 + whole(now.tv_nsec)
}

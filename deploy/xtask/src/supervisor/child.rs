//! One supervised process: running, or waiting to be started again.

use std::process::{Child as Handle, Command, Stdio};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::record::Entry;
use super::spec::Spec;
use crate::clock;
use crate::cluster;
use crate::error::{Error, Result};
use crate::files;
use crate::process::Identity;
use crate::system;
use crate::terminal;

/// How long the processes of a dead PostgreSQL may take to notice, before they are killed.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// A child and its fate so far.
pub struct Child {
    /// What it is to be.
    pub spec: Spec,
    running: Option<Running>,
    due: Instant,
    backoff: Backoff,
    deaths: u32,
    since: u64,
}

struct Running {
    handle: Handle,
    identity: Option<Identity>,
    started: Instant,
}

impl Child {
    /// A child that is due at once.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            running: None,
            due: Instant::now(),
            backoff: Backoff::default(),
            deaths: 0,
            since: clock::now_seconds(),
        }
    }

    /// Starts it; an error when that is impossible (no binary, no log).
    pub fn start(&mut self) -> Result<()> {
        let handle = command(&self.spec)?.spawn().map_err(|source| {
            Error::io(
                &format!("cannot start {}:", self.spec.name),
                &self.spec.program,
                source,
            )
        })?;
        let identity = Identity::of(handle.id());
        self.running = Some(Running {
            handle,
            identity,
            started: Instant::now(),
        });
        self.since = clock::now_seconds();
        Ok(())
    }

    /// Looks after it: notices its death, starts it when it is due. Whether its pid has changed.
    pub fn turn(&mut self) -> bool {
        if self.running.is_some() {
            return self.reap(true);
        }
        if Instant::now() < self.due || !self.is_ready_to_start() {
            return false;
        }
        match self.start() {
            Ok(()) => true,
            Err(error) => {
                let delay = self.backoff.after(Duration::ZERO);
                self.due = Instant::now() + delay;
                self.deaths = self.deaths.saturating_add(1);
                report(&format!("{error}; trying again in {}", text_of(delay)));
                false
            }
        }
    }

    /// Takes note of its death, if it is dead. Whether it is.
    pub fn reap(&mut self, restart: bool) -> bool {
        let Some(running) = &mut self.running else {
            return true;
        };
        let status = match running.handle.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let lived = running.started.elapsed();
        self.running = None;
        self.since = clock::now_seconds();
        if restart {
            let delay = self.backoff.after(lived);
            self.due = Instant::now() + delay;
            self.deaths = self.deaths.saturating_add(1);
            let name = &self.spec.name;
            report(&format!(
                "{name} ended ({status}); starting it again in {}",
                text_of(delay)
            ));
        }
        true
    }

    /// PostgreSQL waits until the processes of the one before are gone; they are killed when they do not go.
    fn is_ready_to_start(&mut self) -> bool {
        let Some(folder) = &self.spec.cluster else {
            return true;
        };
        let patience = self.due + LEFTOVERS;
        cluster::is_settled(folder, Instant::now() >= patience)
    }

    /// When it is due to be started, if it waits.
    pub fn due(&self) -> Option<Instant> {
        if self.running.is_some() {
            None
        } else {
            Some(self.due)
        }
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.handle.id())
    }

    /// How often it has died.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Sends it a signal. It is ours and not reaped, so its number cannot be another's.
    pub fn signal(&self, signal: system::Signal) {
        if let Some(pid) = self.pid() {
            system::send(pid, signal, || true);
        }
    }

    /// Kills it with everything in its process group.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            system::kill_group(pid);
        }
    }

    /// What the record says of it.
    pub fn entry(&self) -> Entry {
        Entry {
            name: self.spec.name.clone(),
            kind: self.spec.kind.clone(),
            group: self.spec.group,
            identity: self
                .running
                .as_ref()
                .and_then(|running| running.identity.clone()),
            since: self.since,
            deaths: self.deaths,
            port: self.spec.port,
            probe: self.spec.probe,
        }
    }
}

/// Variables of the caller that must not reach a child: they would change what the launcher tells it.
fn is_misleading(name: &str) -> bool {
    const PASSED: &[&str] = &[
        "DASHFLEET_LOG",
        "DASHFLEET_LOG_FORMAT",
        "DASHFLEET_SHUTDOWN_MS",
        "DASHFLEET_DATABASE_CONNECTIONS",
        "DASHFLEET_AGENT_SAMPLE_MS",
        "DASHFLEET_ADDRESS_REQUESTS_PER_SECOND",
        "DASHFLEET_LOGINS_PER_MINUTE",
        "DASHFLEET_REQUESTS_PER_SECOND",
        "DASHFLEET_SCHEDULER_POOLS",
        "DASHFLEET_EXECUTION_RETENTION_DAYS",
        "DASHFLEET_WORKER_POOL",
        "DASHFLEET_WORKER_CONCURRENCY",
        "DASHFLEET_WORKER_DRAIN_MS",
        "DASHFLEET_WORKER_WITNESS",
        "DASHFLEET_EGRESS_ALLOW",
        "DASHFLEET_EGRESS_NEVER",
    ];
    (name.starts_with("DASHFLEET_") && !PASSED.contains(&name)) || name.starts_with("PG")
}

/// The environment of a child: the caller's without what misleads (or only what every program needs), then its own.
pub fn set_environment(command: &mut Command, inherit: bool, own: &[(String, std::ffi::OsString)]) {
    const NEEDED: &[&str] = &["PATH", "LD_LIBRARY_PATH", "TMPDIR"];
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let passes = if inherit {
            !is_misleading(&text)
        } else {
            NEEDED.contains(&text.as_ref())
        };
        if passes {
            command.env(name, value);
        }
    }
    command.envs(own.iter().map(|(name, value)| (name, value)));
}

fn command(spec: &Spec) -> Result<Command> {
    use std::os::unix::process::CommandExt;
    let log = files::open_log(&spec.log)?;
    let errors = log
        .try_clone()
        .map_err(|source| Error::io("cannot open", &spec.log, source))?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).current_dir(&spec.folder);
    set_environment(&mut command, spec.inherit, &spec.env);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    if let Some(user) = spec.user {
        command.uid(user.uid).gid(user.gid);
    }
    // A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops all in order.
    command.process_group(0);
    system::bind_to_parent(&mut command, spec.group.death());
    Ok(command)
}

/// One dated line about a child, for the supervisor's log.
pub fn report(text: &str) {
    terminal::say(&format!("{}  {text}", clock::now_text()));
}

fn text_of(delay: Duration) -> String {
    format!("{} ms", delay.as_millis())
}

//! Keeps a set of processes running: notices deaths, starts again with back-off, records who is who, rotates logs, and
//! stops all in order. One thread, the main one: the kernel ends the children when this thread ends.

pub mod backoff;
pub mod child;
pub mod record;
pub mod rotation;
pub mod spec;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::child::{Child, report};
use self::record::Entry;
use self::spec::{Group, Spec};
use crate::error::{Error, Result};
use crate::system::{self, Wake};
use crate::{files, orphans};

/// How often sizes of logs are looked at.
const ROTATION: Duration = Duration::from_secs(5);
/// The longest sleep; deaths and signals end it.
const SLEEP: Duration = Duration::from_millis(500);
/// How many lines of a log an error shows.
const TAIL: usize = 15;

/// The supervisor of one product.
pub struct Supervisor {
    children: Vec<Child>,
    record: PathBuf,
    logs: PathBuf,
    rotated: Instant,
    reload: bool,
    changed: bool,
}

impl Supervisor {
    /// A supervisor without children, which keeps its record here and the logs in this folder below a bound. Call it on
    /// the main thread.
    pub fn new(record: &Path, logs: &Path) -> Self {
        system::block_signals();
        Self {
            children: Vec::new(),
            record: record.to_owned(),
            logs: logs.to_owned(),
            rotated: Instant::now(),
            reload: false,
            changed: false,
        }
    }

    /// Starts a process and keeps it running from now on.
    pub fn start(&mut self, spec: Spec) -> Result<()> {
        if let Some(folder) = &spec.cluster {
            orphans::settle_cluster(folder);
        }
        let mut child = Child::new(spec);
        child.start()?;
        self.children.push(child);
        self.write_record()
    }

    /// Whether a process of this name is kept running.
    pub fn has(&self, name: &str) -> bool {
        self.children.iter().any(|child| child.spec.name == name)
    }

    /// All processes as they are now.
    pub fn entries(&self) -> Vec<Entry> {
        self.children.iter().map(Child::entry).collect()
    }

    /// Waits a little (at most `limit`) and looks after the children. An interruption when a signal asks to stop.
    pub fn turn(&mut self, limit: Duration) -> Result<()> {
        let now = Instant::now();
        let next = self.children.iter().filter_map(Child::due).min();
        let sleep = next.map_or(SLEEP, |due| due.saturating_duration_since(now).min(SLEEP));
        // At least a moment: a PostgreSQL that waits for leftovers is due all the time.
        let wake = system::wait_signal(sleep.max(Duration::from_millis(20)).min(limit));
        if wake == Some(Wake::Stop) {
            return Err(Error::Interrupted);
        }
        self.reload |= wake == Some(Wake::Reload);
        let mut changed = false;
        for child in &mut self.children {
            changed |= child.turn();
        }
        if changed {
            self.changed = true;
            if let Err(error) = self.write_record() {
                report(&format!("{error}"));
            }
        }
        if self.rotated.elapsed() >= ROTATION {
            self.rotated = Instant::now();
            if let Err(error) = rotation::rotate_all(&self.logs) {
                report(&format!("cannot rotate the logs: {error}"));
            }
        }
        Ok(())
    }

    /// Whether a reload was asked for since the last call.
    pub fn take_reload(&mut self) -> bool {
        std::mem::take(&mut self.reload)
    }

    /// Whether pids have changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Waits until a process is ready, and looks after all meanwhile. Gives up at the limit, or when the process has
    /// died `deaths` times, and shows its log's end.
    pub fn wait_ready(&mut self, name: &str, limit: Duration, deaths: u32) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let child = self.children.iter().find(|child| child.spec.name == name);
            let Some(child) = child else {
                return Err(Error::failed(format!("{name} is not supervised")));
            };
            let answer = match child.pid() {
                Some(_) => child.spec.probe.ask(),
                None => Err("waiting to be started again".to_owned()),
            };
            let Err(reason) = answer else { return Ok(()) };
            let what = if child.deaths() >= deaths {
                format!("{name} ended {} times while starting", child.deaths())
            } else if Instant::now() >= deadline {
                format!("{name} is not ready after {} s ({reason})", limit.as_secs())
            } else {
                self.turn(Duration::from_millis(50))?;
                continue;
            };
            let log = child.spec.log.clone();
            return Err(Error::Child {
                what,
                tail: files::tail(&log, TAIL),
                log,
            });
        }
    }

    /// Runs a command that ends by itself, and looks after the children meanwhile. What it prints to the standard
    /// output is returned; its errors go to the log.
    pub fn run_step(
        &mut self,
        name: &str,
        mut command: Command,
        log: &Path,
        limit: Duration,
    ) -> Result<String> {
        use std::os::unix::process::CommandExt;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(files::open_log(log)?);
        command.process_group(0);
        system::bind_to_parent(&mut command, system::Signal::Kill);
        let program = PathBuf::from(command.get_program());
        let mut handle = command
            .spawn()
            .map_err(|source| Error::io(&format!("cannot run {name}:"), &program, source))?;
        // A thread reads, so that a long answer never blocks the command.
        let output = handle.stdout.take();
        let reader = std::thread::spawn(move || {
            output
                .and_then(|output| std::io::read_to_string(output).ok())
                .unwrap_or_default()
        });
        let deadline = Instant::now() + limit;
        let ended = loop {
            match handle.try_wait() {
                Ok(Some(status)) if status.success() => break Ok(()),
                Ok(Some(status)) => break Err(format!("{name} failed ({status})")),
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => break Err(format!("{name} took over {} s", limit.as_secs())),
                Err(error) => break Err(format!("{name}: {error}")),
            }
            if let Err(error) = self.turn(Duration::from_millis(20)) {
                system::kill_group(handle.id());
                let _reaped = handle.wait();
                return Err(error);
            }
        };
        if let Err(what) = ended {
            if matches!(handle.try_wait(), Ok(None)) {
                system::kill_group(handle.id());
                let _reaped = handle.wait();
            }
            return Err(Error::Child {
                what,
                tail: files::tail(log, TAIL),
                log: log.to_owned(),
            });
        }
        reader
            .join()
            .map_err(|_| Error::failed(format!("the output of {name} is lost")))
    }

    /// Stops everything: one group after the other, each asked first and killed at its deadline. A further signal
    /// from the user ends all waiting.
    pub fn stop(&mut self) {
        let mut hurried = false;
        for group in Group::STOP_ORDER {
            for (signal, limit) in group.requests() {
                if hurried && group != Group::Postgres {
                    break;
                }
                self.of_group(group).for_each(|child| child.signal(*signal));
                hurried |= !self.wait_group(group, if hurried { SLEEP } else { *limit });
            }
            self.of_group(group).for_each(Child::kill);
            self.wait_group(group, Duration::from_secs(5));
        }
        for folder in self
            .children
            .iter()
            .filter_map(|child| child.spec.cluster.as_deref())
        {
            orphans::settle_cluster(folder);
        }
        if let Err(error) = self.write_record() {
            report(&format!("{error}"));
        }
    }

    fn of_group(&self, group: Group) -> impl Iterator<Item = &Child> {
        self.children
            .iter()
            .filter(move |child| child.spec.group == group)
    }

    /// Waits for a group's end; false when a signal asked to hurry.
    fn wait_group(&mut self, group: Group, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let mut all = true;
            for child in self
                .children
                .iter_mut()
                .filter(|child| child.spec.group == group)
            {
                all &= child.reap(false);
            }
            if all || Instant::now() >= deadline {
                return true;
            }
            if system::wait_signal(Duration::from_millis(50)) == Some(Wake::Stop) {
                report("asked again: killing what is left");
                return false;
            }
        }
    }

    fn write_record(&self) -> Result<()> {
        record::write(&self.record, &self.entries())
    }
}

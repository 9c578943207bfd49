//! `up`: builds, gets what is missing, and becomes the supervisor or leaves one behind.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{data_option, data_path};
use crate::args;
use crate::devfile::Devfile;
use crate::error::{Error, Result};
use crate::folder::{Folder, Launch, Lock};
use crate::process::Identity;
use crate::system::{self, Signal, Wake};
use crate::tools::{nats, postgres};
use crate::workspace::{self, Workspace};
use crate::{files, startup, terminal};

/// How long a running supervisor may take to be ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the product.
pub fn run(options: &args::Up) -> Result<()> {
    let workspace = Workspace::find()?;
    workspace.build(options.release)?;
    let data = Folder::make(&data_path(options.data.clone())?)?;
    let lock = data.lock_up()?;
    if let Some(supervisor) = data.supervisor()? {
        return join(&data, &supervisor, options);
    }
    let launch = Launch {
        nats_server: nats::ensure(&workspace.tools())?,
        postgres_binaries: postgres::ensure(files::read_json(&data.join("postgres.version"))?)?
            .folder,
        binaries: workspace.binaries(options.release),
        root: workspace.root,
        http: options.http,
        replicas: options.replicas.clone().unwrap_or_default(),
    };
    data.write_launch(&launch)?;
    if options.detach {
        detached(&data)
    } else {
        foreground(&data, lock)
    }
}

/// Is the supervisor until Ctrl-C.
fn foreground(data: &Folder, lock: Lock) -> Result<()> {
    startup::run(data, |devfile| {
        welcome(data, devfile);
        terminal::say("Ctrl-C stops everything.");
        // From here on another `up` finds a running product.
        drop(lock);
    })
}

/// Leaves a supervisor behind, passes on what it says, and returns when everything runs.
fn detached(data: &Folder) -> Result<()> {
    let path = data.log("supervisor");
    let log = files::open_log(&path)?;
    let said = log.metadata().map_or(0, |about| about.len());
    let errors = log
        .try_clone()
        .map_err(|source| Error::io("cannot open", &path, source))?;
    files::remove(&data.devfile())?;
    let own = workspace::own_program()?;
    let mut command = Command::new(own);
    command.arg("supervise").arg("--data").arg(&data.path);
    command
        .current_dir(&data.path)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    system::block_signals();
    system::detach(&mut command);
    let supervisor = command
        .spawn()
        .map_err(|source| Error::io("cannot start", own, source))?;
    let devfile = follow(data, supervisor, &path, said)?;
    welcome(data, &devfile);
    let option = data_option(&data.path);
    terminal::say(&format!(
        "It runs in the background; `cargo xtask down{option}` stops it."
    ));
    Ok(())
}

/// Passes on the supervisor's lines until it has written `dev.json`, or has ended. A signal to us ends it too.
fn follow(data: &Folder, mut supervisor: Child, log: &Path, mut said: u64) -> Result<Devfile> {
    let mut stopping = false;
    loop {
        let woken = system::wait_signal(Duration::from_millis(100));
        let ended = supervisor
            .try_wait()
            .map_err(|source| Error::io("lost", log, source))?;
        pass_on(log, &mut said);
        if ended.is_some() {
            return Err(if stopping {
                Error::Interrupted
            } else {
                Error::failed(format!(
                    "it did not start; the logs are in {}",
                    data.join("logs").display()
                ))
            });
        }
        if woken == Some(Wake::Stop) {
            stopping = true;
            system::send(supervisor.id(), Signal::Terminate, || true);
        }
        if !stopping && let Some(devfile) = Devfile::read(&data.devfile())? {
            return Ok(devfile);
        }
    }
}

fn pass_on(log: &Path, said: &mut u64) {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(*said))?;
        file.read_to_end(&mut bytes)
    });
    if let Ok(count) = read {
        *said += count as u64;
        terminal::pass_on(&bytes);
    }
}

/// A supervisor runs: starts what is missing (more replicas), waits until all is ready, and shows the product.
fn join(data: &Folder, supervisor: &Identity, options: &args::Up) -> Result<()> {
    terminal::progress(
        "up",
        &format!("already runs (supervisor's pid {})", supervisor.pid),
    );
    let mut replicas = None;
    if let (Some(wanted), Some(mut launch)) = (&options.replicas, data.launch()?) {
        let more = launch.replicas.or_more(wanted);
        if more != launch.replicas {
            terminal::progress(
                "up",
                &format!("{more} replicas instead of {}", launch.replicas),
            );
            launch.replicas = more;
            data.write_launch(&launch)?;
            supervisor.signal(Signal::Reload);
        }
        replicas = Some(launch.replicas);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(devfile) = Devfile::read(&data.devfile())?
            && replicas
                .as_ref()
                .is_none_or(|replicas| devfile.has(replicas))
        {
            if options
                .http
                .is_some_and(|port| !devfile.url.ends_with(&format!(":{port}")))
            {
                terminal::progress("up", "it keeps its port; `down` first to change it");
            }
            welcome(data, &devfile);
            return Ok(());
        }
        if !supervisor.is_alive() {
            return Err(Error::failed(
                "the running supervisor has ended; start again",
            ));
        }
        if Instant::now() >= deadline {
            let log = data.log("supervisor");
            return Err(Error::Child {
                what: "the running supervisor is not ready".to_owned(),
                tail: files::tail(&log, 15),
                log,
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Shows where the product is, who may enter, and how to use it.
pub fn welcome(data: &Folder, devfile: &Devfile) {
    let Devfile {
        url,
        api_key,
        machine_id,
        ..
    } = devfile;
    let further = devfile.gateway_urls.get(1..).unwrap_or_default();
    let further = further
        .iter()
        .map(|url| format!("\n           {url}"))
        .collect::<String>();
    let curl = format!("curl -s -H 'Authorization: Bearer {api_key}'");
    let body = format!(
        r#"{{"machineId":"{machine_id}","kind":"message","payload":{{"message":"Hello"}}}}"#
    );
    terminal::say(&format!(
        "\nDashFleet runs.\n\n\
         URL        {url}{further}\n\
         login      {email}  {password}\n\
         documents  {url}/docs\n\
         folder     {folder} (dev.json: everything for tools; logs/)\n\n\
         # This machine; a message to it; what became of that.\n\
         {curl} {url}/api/v1/machines\n\
         ACTION=$({curl} -H 'Content-Type: application/json' -d '{body}' {url}/api/v1/actions | {pick})\n\
         {curl} {url}/api/v1/actions/$ACTION\n",
        email = devfile.admin_email,
        password = devfile.admin_password,
        folder = data.path.display(),
        pick = r#"grep -o '"id":"[^"]*"' | head -n 1 | cut -d '"' -f 4"#,
    ));
}

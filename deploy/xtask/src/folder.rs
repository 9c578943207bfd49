//! `<data>`: the folder of one running product, what lies where in it, and who may work on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::process::Identity;
use crate::replicas::Replicas;
use crate::{files, terminal};

/// The folder's mode: PostgreSQL's own user must be able to pass through it to its subfolder. What is secret in it
/// has a mode of its own.
const FOLDER_MODE: u32 = 0o711;

/// The folder of one running product.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its absolute path.
    pub path: PathBuf,
}

/// What `up` asks of the supervisor. `up` writes it, the supervisor reads it at its start and on a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The clone.
    pub root: PathBuf,
    /// Where the binaries are.
    pub binaries: PathBuf,
    /// The nats-server binary.
    pub nats_server: PathBuf,
    /// The folder of PostgreSQL's binaries.
    pub postgres_binaries: PathBuf,
    /// The gateway's port, when it was asked for.
    pub http: Option<u16>,
    /// How many of each service.
    #[serde(flatten)]
    pub replicas: Replicas,
}

/// A lock on a file, held as long as this lives (and never longer than the process).
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Folder {
    /// Opens the folder, and makes it when there is none.
    pub fn make(path: &Path) -> Result<Self> {
        files::make_folder(path, FOLDER_MODE)?;
        let folder = Self::at(path)?;
        files::make_private_folder(&folder.path.join("logs"))?;
        Ok(folder)
    }

    /// Opens a folder that exists.
    pub fn at(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .map_err(|source| Error::io("cannot open the data folder", path, source))?;
        Ok(Self { path })
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The log of one process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.join("logs").join(format!("{name}.log"))
    }

    /// The record of the supervised processes.
    pub fn record(&self) -> PathBuf {
        self.join("processes.json")
    }

    /// `dev.json`.
    pub fn devfile(&self) -> PathBuf {
        self.join("dev.json")
    }

    /// Takes the lock that one `up` or `down` at a time holds; waits for it, and says so.
    pub fn lock_up(&self) -> Result<Lock> {
        let file = open_lock(&self.join("up.lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                terminal::progress(
                    "up.lock",
                    "another launcher works on this folder; waiting for it",
                );
                file.lock()
                    .map_err(|source| Error::io("cannot lock", &self.path, source))?;
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::io("cannot lock", &self.path, source));
            }
        }
        Ok(Lock { file })
    }

    /// Makes this process the folder's supervisor for as long as the lock lives; refuses when there is one.
    pub fn become_supervisor(&self) -> Result<Lock> {
        let mut lock = Lock {
            file: open_lock(&self.join("supervisor.lock"))?,
        };
        // Who only looks whether there is a supervisor holds the lock for a moment too: try for a while.
        let deadline = Instant::now() + Duration::from_secs(2);
        while lock.file.try_lock().is_err() {
            if Instant::now() >= deadline {
                return Err(Error::failed("a supervisor already runs on this folder"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let identity = Identity::of(std::process::id())
            .ok_or_else(|| Error::failed("cannot read /proc: is it mounted?"))?;
        let text = serde_json::to_string(&identity)
            .map_err(|error| Error::failed(format!("cannot encode the supervisor: {error}")))?;
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(text.as_bytes())
        };
        write(&mut lock.file).map_err(|source| Error::io("cannot write in", &self.path, source))?;
        Ok(lock)
    }

    /// The running supervisor, if there is one. The lock says that it lives, its content who it is.
    pub fn supervisor(&self) -> Result<Option<Identity>> {
        let path = self.join("supervisor.lock");
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let Ok(mut file) = File::open(&path) else {
                return Ok(None);
            };
            if file.try_lock_shared().is_ok() {
                return Ok(None);
            }
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            if let (Ok(_), Ok(identity)) = (read, serde_json::from_str::<Identity>(&text))
                && identity.is_alive()
            {
                return Ok(Some(identity));
            }
            // It holds the lock and has not written its name yet, or is at its very end.
            if Instant::now() >= deadline {
                let path = path.display();
                return Err(Error::failed(format!(
                    "{path} is held by an unknown process"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `up` asked for.
    pub fn launch(&self) -> Result<Option<Launch>> {
        files::read_json(&self.join("launch.json"))
    }

    /// Writes what `up` asks for.
    pub fn write_launch(&self, launch: &Launch) -> Result<()> {
        files::replace_json(&self.join("launch.json"), launch)
    }
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::io("cannot open", path, source))
}

//! The private PostgreSQL: where its folder lies, how it is made, how it is started. The system's own clusters are
//! never touched.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::files;
use crate::folder::Folder;
use crate::health::Probe;
use crate::orphans;
use crate::process;
use crate::replicas;
use crate::secrets::Secrets;
use crate::supervisor::child;
use crate::supervisor::spec::{Group, Spec, User};
use crate::system::{self, Signal};
use crate::table;

/// Where clusters lie that PostgreSQL's user could not reach inside `<data>`.
const OUTSIDE: &str = "/var/lib/dashfleet";

/// The settings of the private server. Durable as a real one (`fsync` and `synchronous_commit` stay on); otherwise sized
/// for one machine: many short statements, no parallel or compiled plans.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "password_encryption=scram-sha-256",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "checkpoint_timeout=10min",
    "random_page_cost=1.1",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_line_prefix=%m [%p] %q%u ",
    "logging_collector=off",
];

/// What besides the services connects: people, the jobs that prepare, what PostgreSQL keeps for its superuser.
const OTHER_CONNECTIONS: usize = 50;

/// One private cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its data folder.
    pub folder: PathBuf,
    /// Whether the folder lies outside `<data>`.
    pub outside: bool,
    /// Its user, when the launcher is root.
    pub user: Option<User>,
}

impl Cluster {
    /// Decides where the cluster lies, and makes room for it there. One that exists stays where it is.
    pub fn locate(data: &Folder, secrets: &Secrets) -> Result<Self> {
        let folder = data.join("postgres");
        if system::user_id() != 0 {
            return Ok(Self {
                folder,
                outside: false,
                user: None,
            });
        }
        if let Some(user) = owner_of(&folder) {
            if may_pass(&data.path, user) {
                return Ok(Self {
                    folder,
                    outside: false,
                    user: Some(user),
                });
            }
            return Err(Error::failed(format!(
                "PostgreSQL's user (uid {}) can no longer reach its cluster in {}: let others pass through \
                 the folders above it (chmod o+x), or move the data folder",
                user.uid,
                folder.display()
            )));
        }
        let user = postgres_user(&read_users()?).ok_or_else(|| {
            Error::failed(
                "PostgreSQL refuses to run as root, and this machine has no user `postgres`; \
                 make one (`useradd --system postgres`) or start as an ordinary user",
            )
        })?;
        let home = Path::new(OUTSIDE).join(format!("{:016x}", name_hash(&data.path)));
        let outside = Self {
            folder: home.join("postgres"),
            outside: true,
            user: Some(user),
        };
        let is_outside = outside.exists() && is_of(&home, &secrets.product);
        if !is_outside && may_pass(&data.path, user) {
            return Ok(Self {
                folder,
                outside: false,
                user: Some(user),
            });
        }
        files::make_folder(Path::new(OUTSIDE), 0o755)?;
        files::make_folder(&home, 0o711)?;
        keep_ours(&home, &secrets.product)?;
        Ok(outside)
    }

    /// Whether it has been made.
    pub fn exists(&self) -> bool {
        self.folder.join("PG_VERSION").is_file()
    }

    /// The major version that it was made by.
    pub fn version(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The command that makes the cluster beside its place, and the folder that it makes. [`Cluster::adopt`] moves it
    /// there, so that a crash leaves a whole cluster or none.
    pub fn prepare(&self, binaries: &Path, password: &str) -> Result<Command> {
        let making = self.making();
        let secret = self.password_file();
        if making.exists() {
            // Of a start that was killed in the middle; its processes are about to notice.
            orphans::settle_cluster(&making);
            fs::remove_dir_all(&making)
                .map_err(|source| Error::io("cannot remove", &making, source))?;
        }
        files::make_private_folder(&making)?;
        files::replace_private(&secret, password.as_bytes())?;
        let mut command = Command::new(binaries.join("initdb"));
        child::set_environment(&mut command, false, &[locale()]);
        if let Some(user) = self.user {
            for path in [&making, &secret] {
                chown(path, Some(user.uid), Some(user.gid))
                    .map_err(|source| Error::io("cannot hand over", path, source))?;
            }
            command.uid(user.uid).gid(user.gid);
        }
        command.current_dir("/");
        command
            .arg("--pgdata")
            .arg(&making)
            .arg("--pwfile")
            .arg(&secret);
        command.args([
            "--username=postgres",
            "--auth-host=scram-sha-256",
            "--auth-local=reject",
        ]);
        command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
        Ok(command)
    }

    /// Moves the made cluster to its place.
    pub fn adopt(&self) -> Result<()> {
        files::remove(&self.password_file())?;
        fs::rename(self.making(), &self.folder)
            .map_err(|source| Error::io("cannot move the cluster to", &self.folder, source))
    }

    /// The server, to be supervised.
    pub fn spec(&self, binaries: &Path, port: u16, log: PathBuf) -> Spec {
        let mut args: Vec<OsString> = vec!["-D".into(), self.folder.clone().into()];
        for setting in SETTINGS {
            args.extend(["-c".into(), (*setting).into()]);
        }
        // For as many replicas as a later `up` may ask for: a server takes this once, when it starts.
        let connections = OTHER_CONNECTIONS + replicas::LIMIT * table::connections_of_replicas();
        args.extend(["-c".into(), format!("max_connections={connections}").into()]);
        args.extend(["-c".into(), format!("port={port}").into()]);
        Spec {
            name: "postgres".to_owned(),
            kind: "postgres".to_owned(),
            group: Group::Postgres,
            program: binaries.join("postgres"),
            args,
            env: vec![locale()],
            inherit: false,
            user: self.user,
            folder: PathBuf::from("/"),
            log,
            port: Some(port),
            probe: Probe::Postgres(port),
            cluster: Some(self.folder.clone()),
        }
    }

    fn making(&self) -> PathBuf {
        self.folder.with_file_name("postgres.making")
    }

    fn password_file(&self) -> PathBuf {
        self.folder.with_file_name("postgres.password")
    }
}

fn locale() -> (String, OsString) {
    ("LC_ALL".to_owned(), "C.UTF-8".into())
}

/// Whether no process of an earlier server works in the cluster any more; with `force` those that do are killed. A
/// `postmaster.pid` of a server that is gone is removed when its number now belongs to something else, which PostgreSQL
/// would take for itself.
pub fn is_settled(folder: &Path, force: bool) -> bool {
    let left = process::working_in(folder, "postgres");
    if !left.is_empty() {
        if force {
            left.iter().for_each(|process| {
                process.signal(Signal::Kill);
            });
        }
        return false;
    }
    let lock = folder.join("postmaster.pid");
    let text = fs::read_to_string(&lock).unwrap_or_default();
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok());
    if let Some(pid) = pid
        && Path::new("/proc").join(pid.to_string()).exists()
        && !process::has_argument(pid, &folder.to_string_lossy())
    {
        // What cannot be removed makes PostgreSQL say so itself.
        let _reported_by_postgres = fs::remove_file(&lock);
    }
    true
}

fn read_users() -> Result<String> {
    let path = Path::new("/etc/passwd");
    fs::read_to_string(path).map_err(|source| Error::io("cannot read", path, source))
}

/// The user `postgres` in the text of a passwd file.
pub fn postgres_user(users: &str) -> Option<User> {
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(User { uid, gid })
}

/// Whether the user can pass through a folder and all those above it: tried, since modes are not all that decides.
fn may_pass(folder: &Path, user: User) -> bool {
    let mut inside = folder.as_os_str().to_owned();
    inside.push("/.");
    Command::new("test")
        .arg("-e")
        .arg(inside)
        .current_dir("/")
        .uid(user.uid)
        .gid(user.gid)
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A cluster outside `<data>` may belong to a product whose `<data>` was deleted: without its keys nobody can use it, so
/// it is moved aside (the last such one is kept).
fn keep_ours(home: &Path, product: &str) -> Result<()> {
    if is_of(home, product) {
        return Ok(());
    }
    let stale = home.join("postgres.stale");
    let cluster = home.join("postgres");
    if cluster.exists() {
        if stale.exists() {
            fs::remove_dir_all(&stale)
                .map_err(|source| Error::io("cannot remove", &stale, source))?;
        }
        orphans::settle_cluster(&cluster);
        fs::rename(&cluster, &stale)
            .map_err(|source| Error::io("cannot move aside", &cluster, source))?;
    }
    files::replace_private(&home.join("product"), product.as_bytes())
}

fn is_of(home: &Path, product: &str) -> bool {
    fs::read_to_string(home.join("product")).is_ok_and(|text| text.trim() == product)
}

/// The user whose cluster this is; `None` when there is none. Root's own cannot be run, and is taken for none.
fn owner_of(cluster: &Path) -> Option<User> {
    let about = fs::metadata(cluster.join("PG_VERSION")).ok()?;
    (about.uid() != 0).then(|| User {
        uid: about.uid(),
        gid: about.gid(),
    })
}

/// FNV-1a over the path: stable between builds, which the standard library's hashes are not promised to be.
pub fn name_hash(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

//! The clone: where it is, where its binaries are built, and cargo run on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::terminal;

/// Variables that `cargo run` gives to the launcher. Build scripts (ring's for one) watch some of them, so handing
/// them on would make every nested cargo rebuild what a cargo in the shell has built, and the other way round.
const OF_CARGO_RUN: &[&str] = &[
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
];

/// The clone that this launcher was built from.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Its top folder.
    pub root: PathBuf,
    /// cargo's target folder.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the clone from the environment of `cargo run`, else from where this binary was compiled; the target
    /// folder from where this binary lies.
    pub fn find() -> Result<Self> {
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own
            .ancestors()
            .find(|folder| folder.join("Cargo.lock").is_file());
        let Some(root) = root else {
            let own = own.display();
            return Err(Error::failed(format!(
                "the clone that was at {own} is gone; build again"
            )));
        };
        let binary = own_program()?;
        // <target>/<profile>/xtask, and <target>/<profile>/deps/… for a test.
        let profile = binary
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"));
        let target = profile
            .and_then(Path::parent)
            .map_or_else(|| root.join("target"), Path::to_owned);
        Ok(Self {
            root: root.to_owned(),
            target,
        })
    }

    /// Where the binaries of a profile are.
    pub fn binaries(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" })
    }

    /// Where fetched tools are kept.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// cargo, in the clone, with the environment that a shell would give it.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| OF_CARGO_RUN.iter().any(|of| name.starts_with(of)))
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// Builds the whole workspace. Always the whole: another selection is another feature set and rebuilds the world.
    /// Tests and benches, which were built with the binaries, set `DASHFLEET_BUILT` to start many products at once.
    pub fn build(&self, release: bool) -> Result<()> {
        if std::env::var_os("DASHFLEET_BUILT").is_some() {
            return Ok(());
        }
        let mut arguments = vec!["build", "--workspace"];
        if release {
            arguments.push("--release");
        }
        terminal::progress("build", &format!("cargo {}", arguments.join(" ")));
        run(self.cargo(&arguments), "the build")
    }
}

/// The launcher's own program, by the path that it was started from. [`crate::run`] asks before anything else: `up`
/// builds, and a build may put a new program in its place; then the system would only say that the old one is gone.
pub fn own_program() -> Result<&'static Path> {
    static OWN: OnceLock<std::io::Result<PathBuf>> = OnceLock::new();
    OWN.get_or_init(std::env::current_exe)
        .as_ref()
        .map(PathBuf::as_path)
        .map_err(|error| Error::failed(format!("cannot find the launcher's own program: {error}")))
}

/// Runs a command with the terminal's streams; an unsuccessful end is an error that names it.
pub fn run(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().map_err(|source| {
        Error::io(
            &format!("cannot run {what}:"),
            Path::new(command.get_program()),
            source,
        )
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::failed(format!("{what} failed ({status})")))
}

//! Programs of Debian's that benches measure beside: the installed one, or one out of its package, unpacked below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::product::repository;

/// A command that runs a program which may be out of its package: with the libraries that lie beside it.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let libraries = program
        .ancestors()
        .nth(2)
        .map(|usr| usr.join("lib"))
        .and_then(|lib| std::fs::read_dir(lib).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.ends_with("x86_64-linux-gnu") || path.ends_with("aarch64-linux-gnu"));
    if let Some(folder) = libraries.filter(|_| !program.starts_with("/usr")) {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command
}

/// The program of the first of these packages, which needs the others: the one that the environment's variable names, the installed one, or one out of the package;
/// `None` (and a line that says so) where it cannot be had.
#[must_use]
pub fn program(packages: &[&str], name: &str, variable: &str) -> Option<PathBuf> {
    let package = packages.first().copied().unwrap_or(name);
    let folder = repository().join("target/tools").join(package);
    let installed = Path::new("/usr/bin").join(name);
    let unpacked = folder.join("usr/bin").join(name);
    let named = std::env::var_os(variable).map(PathBuf::from);
    let places = [named, Some(installed), Some(unpacked.clone())];
    if let Some(found) = places
        .into_iter()
        .flatten()
        .find(|program| program.is_file())
    {
        return Some(found);
    }
    let all = packages.join(" ");
    let fetch = format!(
        "apt-get download {all} && for package in *.deb; do dpkg-deb -x $package . && rm $package; done"
    );
    let fetched = std::fs::create_dir_all(&folder).and_then(|()| {
        let mut command = Command::new("sh");
        command.args(["-c", &fetch]).current_dir(&folder).output()
    });
    if fetched.is_ok() && unpacked.is_file() {
        return Some(unpacked);
    }
    println!(
        "{name} is neither installed nor to be had by `apt-get download`: measured without it"
    );
    None
}

//! Programs of Debian's that benches measure beside: the installed one, or one out of its package, unpacked below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::product::repository;

/// The program of a package: the one that the environment's variable names, the installed one, or one out of the package;
/// `None` (and a line that says so) where it cannot be had.
#[must_use]
pub fn program(package: &str, name: &str, variable: &str) -> Option<PathBuf> {
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
    let fetch = format!(
        "apt-get download {package} && dpkg-deb -x {package}_*.deb . && rm {package}_*.deb"
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

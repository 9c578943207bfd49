//! Debian's and Ubuntu's packages, where we may install them.

use std::process::{Command, Stdio};

use super::in_path;
use crate::error::{Error, Result};
use crate::{system, terminal};

/// Installs packages, or says which ones to install when we may not.
pub fn install(packages: &[&str], reason: &str) -> Result<()> {
    let names = packages.join(" ");
    let advice = format!("{reason}; install it: sudo apt-get install {names}");
    if in_path("apt-get").is_none() {
        return Err(Error::failed(format!(
            "{reason}; install what Debian calls: {names}"
        )));
    }
    let Some(prefix) = prefix() else {
        return Err(Error::failed(advice));
    };
    terminal::progress("packages", &format!("{reason}; apt-get install {names}"));
    // An index that is old or cannot be refreshed may still do, so only the second step decides.
    let _index_may_do = run(&prefix, &["update", "--quiet"]);
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend_from_slice(packages);
    if run(&prefix, &arguments) {
        Ok(())
    } else {
        Err(Error::failed(advice))
    }
}

/// What goes before `apt-get`: nothing for root, sudo where it asks for no password.
fn prefix() -> Option<Vec<&'static str>> {
    if system::user_id() == 0 {
        return Some(Vec::new());
    }
    let quiet = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet
        .is_ok_and(|status| status.success())
        .then(|| vec!["sudo", "-n"])
}

fn run(prefix: &[&str], arguments: &[&str]) -> bool {
    let mut words = prefix
        .iter()
        .chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    let Some(program) = words.next() else {
        return false;
    };
    Command::new(program)
        .args(words)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

//! The agent as a service of systemd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::helper::{self, HELPER_PATH};

/// The unit's name.
const UNIT: &str = "dashfleet-agent.service";
/// Where the install script puts it.
const UNIT_FILE: &str = "/etc/systemd/system/dashfleet-agent.service";
/// How long systemd may take to end it: longer than the agent's own patience.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub(in super::super) fn service_files() -> Vec<PathBuf> {
    vec![UNIT_FILE.into()]
}

pub(in super::super) async fn service_stop() -> Result<(), String> {
    // Without a unit there is no service; without systemd nobody runs it.
    if !Path::new(UNIT_FILE).exists() {
        return Ok(());
    }
    systemctl(&["disable", "--now", UNIT]).await
}

pub(in super::super) async fn service_forget() -> Result<(), String> {
    systemctl(&["daemon-reload"]).await
}

async fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let is_here = Path::new("/run/systemd/system").exists();
    let mut systemctl = helper::command("systemctl", HELPER_PATH);
    // Without a running systemd only its files can be changed.
    let offline: Vec<_> = arguments.iter().filter(|word| **word != "--now").collect();
    if is_here {
        systemctl.args(arguments);
    } else if arguments.contains(&"daemon-reload") {
        return Ok(());
    } else {
        systemctl.args(offline);
    }
    match helper::run_within(systemctl, None, STOP_TIMEOUT).await {
        Ok(_) => Ok(()),
        Err(_) if !is_here => Ok(()),
        Err(reason) => Err(reason),
    }
}

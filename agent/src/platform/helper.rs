//! Running a small program of the system: clean environment, no shell, killed when it hangs.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long a helper may take before it is killed.
pub const HELPER_TIMEOUT: Duration = Duration::from_secs(5);
/// Where helpers are looked for, whatever the agent's own environment says.
pub const HELPER_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// A helper with nothing of the agent's environment.
#[must_use]
pub fn command(program: &str, path: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("LANG", "C.UTF-8");
    #[cfg(unix)]
    command.current_dir("/");
    command
}

/// Runs a helper to its end and gives what it printed.
///
/// # Errors
/// Why it could not be run, what it said when it failed, or that it hung and was killed.
pub async fn run(command: Command, input: Option<&str>) -> Result<String, String> {
    run_within(command, input, HELPER_TIMEOUT).await
}

/// The same, for a helper that may take so long.
///
/// # Errors
/// As [`run`].
pub async fn run_within(
    mut command: Command,
    input: Option<&str>,
    limit: Duration,
) -> Result<String, String> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let stdin = child.stdin.take();
    let ended = tokio::time::timeout(limit, async {
        if let (Some(mut stdin), Some(text)) = (stdin, input) {
            stdin.write_all(text.as_bytes()).await?;
            // Closing the pipe ends the helper's input.
            drop(stdin);
        }
        child.wait_with_output().await
    });
    let output = ended
        .await
        .map_err(|_| {
            format!(
                "{name} did not end within {} s and was killed",
                limit.as_secs()
            )
        })?
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr)
        .trim()
        .chars()
        .take(200)
        .collect();
    Err(format!("{name} failed ({}): {said}", output.status))
}

//! Ends a server when the test process ends, also when it is killed: a shell waits on a pipe whose other end this
//! process holds.

use std::process::{Child, Command, Stdio};

/// Holds the pipe. Dropping it ends the server too.
#[derive(Debug)]
pub struct Keeper(Child);

impl Keeper {
    /// Sends `signal` to `pid` and removes `folder` when this process ends.
    ///
    /// # Panics
    /// When no shell can be started.
    #[must_use]
    pub fn watch(pid: u32, signal: &str, folder: &str) -> Self {
        let script =
            format!("cat >/dev/null; kill -{signal} {pid} 2>/dev/null; sleep 1; rm -rf '{folder}'");
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self(child)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
    }
}
